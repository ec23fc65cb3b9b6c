import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from gridctl.profile import profile_toml

ONE = ("-m", "gridctl")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *ONE)
ACCELERATE = (
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no",
    "--dynamo_backend", "no", *ONE,
)  # fmt: skip

Run = tuple[list[dict[str, Any]], dict[str, Any]]  # the log and the weights


@pytest.fixture(scope="module")
def run(
    make_profile: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], Run]:
    """Train by a launcher, in processes of its own."""
    folder = tmp_path_factory.mktemp("processes")

    @cache
    def launch(launcher: tuple[str, ...]) -> Run:
        path = folder / f"{len(list(folder.glob('*.toml')))}.safetensors"
        options = {"train__steps": 3, "train__accumulate": 2, "train__preserve_weight": 0.5}
        profile = path.with_suffix(".toml")
        profile.write_text(profile_toml(make_profile(train__output=path, **options)))
        command = [sys.executable, *launcher, "train", str(profile)]
        end = subprocess.run(command, capture_output=True, text=True, check=False)
        assert end.returncode == 0, end.stderr
        assert end.stdout == f"{path}\n"  # one of the processes speaks
        assert sum("to train on" in line for line in end.stderr.splitlines()) == 1
        about = json.loads((path.with_suffix(".run") / "run.json").read_text())["about"]
        assert (", 2 processes; " in about["machine"]) == (launcher != ONE)  # it did share the work
        lines = (path.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], load_file(path)

    return launch


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_give_the_weights_that_one_gives(
    run: Callable[[tuple[str, ...]], Run], launcher: tuple[str, ...]
) -> None:
    """Within rounding: a batch of other grids rounds otherwise, and Adam enlarges it near zero."""
    one, weights = run(ONE)
    two, shared = run(launcher)
    assert [entry["step"] for entry in two] == [1, 2, 3]
    for key in ("base", "temporal", "preserve", "loss"):
        assert two[0][key] == pytest.approx(one[0][key], rel=1e-4, abs=1e-7)
        # How far single images moved is a small difference of large numbers.
        assert two[2][key] == pytest.approx(one[2][key], rel=0.3 if key == "preserve" else 0.05)
    for name, tensor in weights.items():
        if ".lora_B." in name:  # begins at zero: all of it was learned
            likeness = cosine_similarity(tensor.flatten(), shared[name].flatten(), dim=0)
            assert likeness > 0.95, name
