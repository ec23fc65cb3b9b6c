import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from gridctl.profile import profile_toml

LAUNCH = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "gridctl")


@pytest.mark.slow
def test_two_processes_give_the_weights_that_one_gives(
    make_profile: Callable[..., Any], tmp_path: Path
) -> None:
    """Within rounding: a batch of other grids rounds otherwise, and Adam enlarges it near zero."""
    logs, weights = [], []
    for name, launch in (("one", ("-m", "gridctl")), ("two", LAUNCH)):
        path = tmp_path / f"{name}.safetensors"
        options = {"train__steps": 3, "train__accumulate": 2, "train__preserve_weight": 0.5}
        profile = make_profile(train__output=path, **options)
        (tmp_path / f"{name}.toml").write_text(profile_toml(profile))
        command = [sys.executable, *launch, "train", str(tmp_path / f"{name}.toml")]
        end = subprocess.run(command, capture_output=True, text=True, check=False)
        assert end.returncode == 0, end.stderr
        assert end.stdout == f"{path}\n"  # one of the processes speaks
        assert sum("to train on" in line for line in end.stderr.splitlines()) == 1
        lines = (path.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()
        logs.append([json.loads(line) for line in lines])
        weights.append(load_file(path))
    one, two = logs
    assert [entry["step"] for entry in two] == [1, 2, 3]
    for key in ("base", "temporal", "preserve", "loss"):
        assert two[0][key] == pytest.approx(one[0][key], rel=1e-4, abs=1e-7)
        assert two[2][key] == pytest.approx(one[2][key], rel=0.05)
    for name, tensor in weights[0].items():
        if ".lora_B." in name:  # begins at zero: all of it was learned
            likeness = cosine_similarity(tensor.flatten(), weights[1][name].flatten(), dim=0)
            assert likeness > 0.95, name
