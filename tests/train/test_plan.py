"""`train --plan` and the refusal of what cannot fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.models.flux1 import TRANSFORMER_CONFIG
from gridctl.models.memory import training_memory
from gridctl.profile import load_profile
from gridctl.train import plan_run
from gridctl.train.data import resolve_stages
from gridctl.train.plan import check_memory


def test_a_plan_has_data_steps_and_parameters(make_profile: Callable[..., Any]) -> None:
    plan = plan_run(make_profile(train__steps=50))
    data, grid, steps, parameters = plan.lines()
    assert "4 grids to train on" in data
    assert "24 image tokens" in grid
    assert steps.split() == ["steps", "50", "of", "2", "grids"]
    assert parameters.endswith("rank 4")
    assert str(plan) == "\n".join(plan.lines())


def test_a_plan_says_what_would_be_faster_on_the_card(
    make_profile: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card is the driver's answer: here that of a script in its place."""
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho '24564, NVIDIA GeForce RTX 4090'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    profile = make_profile(memory__device="cuda", memory__gradient_checkpointing=True)
    assert plan_run(profile).lines()[-1] == (
        "faster      fits with memory.checkpointed_share = 0.0 as well (1.0 now)"
    )


def test_flux_is_planned_without_a_download(dataset: Path, gridctl: Any, capsys: Any) -> None:
    local = Path(dataset).parent / "flux.toml"
    local.write_text(
        'extends = "flux-dev-24gb"\n[grid]\nrows = 2\ncols = 3\ncell = "32x32"\n', "utf-8"
    )
    assert gridctl("train", local, "--data", dataset, "--plan", "--quiet") == 0
    shown = capsys.readouterr().out
    assert "523.0 million, rank 128" in shown
    assert gridctl("train", local, "--data", dataset, "--plan", "--quiet", "--json") == 0
    memory = json.loads(capsys.readouterr().out)["memory_gib"]
    assert memory["base"] == pytest.approx(6.24, abs=0.01)
    assert memory["peak"] == max(memory["encoding"], memory["peak"])


def test_a_run_that_cannot_fit_is_refused() -> None:
    profile = load_profile("flux-dev-80gb", {"train.data": "x"}).profile
    stages = resolve_stages(profile.train, Grid(rows=4, cols=6, cell=(256, 256)))
    assert check_memory(profile, stages, TRANSFORMER_CONFIG, 79.0).peak < 79
    with pytest.raises(UsageError, match="GiB of GPU memory, the card has 44") as error:
        check_memory(profile, stages, TRANSFORMER_CONFIG, 44.0)
    assert "memory.checkpointed_share = 1.0" in str(error.value)


@pytest.mark.parametrize(
    ("stages", "largest"),
    [
        ([{"cell": (16, 16), "batch_size": 9}, {"batch_size": 2}], 0),
        ([{"cell": (16, 16), "batch_size": 1}, {"batch_size": 2}], 1),
        # Fewer image tokens (42 and 48), but more prompts with 512 tokens each.
        ([{"cell": (16, 16), "batch_size": 7}, {"batch_size": 2}], 0),
        # With several passes a step, the gradients of the first are there during the second.
        ([{"batch_size": 2, "accumulate": 2}, {"batch_size": 2}], 0),
    ],
)
def test_the_stage_that_needs_most_is_planned(
    make_profile: Callable[..., Any], base: Any, stages: list[dict[str, Any]], largest: int
) -> None:
    """As if it were the only one. On a transformer of one block of each kind, to be quick."""
    config = {**base.transformer_config, "num_layers": 1, "num_single_layers": 1}
    alone = []
    for stage in stages:
        width, height = stage.get("cell", (32, 32))
        keys = {f"train__{key}": value for key, value in stage.items() if key != "cell"}
        profile = make_profile(grid__cell=f"{width}x{height}", train__rank=64, **keys)
        alone.append(training_memory(profile, config).training)
    assert alone[largest] == max(alone) > min(alone)
    profile = make_profile(train__stage=stages, train__rank=64)
    resolved = resolve_stages(profile.train, profile.grid.to_grid())
    plan = check_memory(profile, resolved, config, 1000.0)
    assert plan.training == alone[largest]
