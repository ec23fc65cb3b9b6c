from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.models.flux1 import TRANSFORMER_CONFIG
from gridctl.profile import StageSection, TrainSection, load_profile, parse_section
from gridctl.train import train
from gridctl.train.data import resolve_stages, stage_at
from gridctl.train.metrics import read_metrics
from gridctl.train.plan import check_memory

GRID = Grid(rows=2, cols=3, cell=(32, 32))


def section(*stages: StageSection, **values: object) -> TrainSection:
    table = {"data": "all", "steps": 10, "learning_rate": 0.5, "temporal_weight": 0.1, **values}
    return replace(parse_section(TrainSection, table), stages=stages)


def test_a_run_without_stages_is_one() -> None:
    (stage,) = resolve_stages(section(), GRID)
    assert (stage.data, stage.steps, stage.learning_rate(0)) == (Path("all"), 10, 0.5)
    assert {stage.temporal_weight(step) for step in range(10)} == {0.1}
    assert {stage.learning_rate(step) for step in range(10)} == {0.5}
    assert not stage.has_ramp


def test_a_stage_takes_the_rest_from_its_section() -> None:
    first, second = resolve_stages(
        section(
            StageSection(steps=3, temporal_weight=0.0, temporal_weight_end=0.4, logit_mean=0.0),
            StageSection(
                data=Path("few"),
                learning_rate=0.25,
                learning_rate_end=0.0,
                temporal_weight_end=0.3,
            ),
            logit_mean=0.25,
        ),
        GRID,
    )
    assert (first.data, first.steps, first.learning_rate(2)) == (Path("all"), 3, 0.5)
    assert (first.logit_mean, second.logit_mean) == (0.0, 0.25)
    assert (second.data, second.steps, second.learning_rate(0)) == (Path("few"), 10, 0.25)
    assert [first.temporal_weight(k) for k in range(3)] == pytest.approx([0.0, 0.2, 0.4])
    assert [second.temporal_weight(k) for k in (0, 9)] == pytest.approx([0.1, 0.3])
    assert [second.learning_rate(k) for k in (0, 3, 9)] == pytest.approx([0.25, 0.25 * 2 / 3, 0])


def test_a_ramp_of_one_step_has_no_slope() -> None:
    (stage,) = resolve_stages(
        section(StageSection(steps=1, temporal_weight=0.2, temporal_weight_end=0.9)), GRID
    )
    assert stage.temporal_weight(0) == 0.2


def test_where_a_step_lies() -> None:
    stages = resolve_stages(section(StageSection(steps=2), StageSection(steps=3)), GRID)
    assert [stage_at(stages, step) for step in range(5)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    with pytest.raises(IndexError):
        stage_at(stages, 5)


def test_a_stage_needs_data() -> None:
    with pytest.raises(UsageError, match=r"train\.data is not set.*--data"):
        resolve_stages(section(data=None), GRID)


def test_cell_and_batch_are_the_stages_own() -> None:
    first, second = resolve_stages(
        section(
            StageSection(cell=(16, 16), batch_size=8, accumulate=2),
            StageSection(),
            batch_size=2,
        ),
        GRID,
    )
    assert first.grid == Grid(rows=2, cols=3, cell=(16, 16))
    assert (first.batch_size, first.accumulate, first.slots) == (8, 2, 16)
    assert second.grid == GRID
    assert (second.batch_size, second.accumulate, second.slots) == (2, 1, 2)


def test_the_last_stage_has_the_grids_cells() -> None:
    with pytest.raises(UsageError, match=r"trains cells of 16x16, and grid\.cell is 32x32"):
        resolve_stages(section(StageSection(cell=(16, 16))), GRID)


def test_the_shipped_curriculum_trains(
    make_profile: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    """The profile's own stages on the built-in model, cells an eighth as large, two steps each."""
    shipped = load_profile("flux-dev-curriculum").profile
    assert sum(stage.steps or 0 for stage in shipped.train.stages) == 15_000  # the paper's
    tables = []
    for stage in shipped.train.stages:
        table = {k: v for k, v in stage.values().items() if v is not None}
        table |= {"data": dataset, "steps": 2}
        if stage.cell:
            table["cell"] = (stage.cell[0] // 8, stage.cell[1] // 8)
        tables.append(table)
    path = tmp_path / "a.safetensors"
    result = train(make_profile(train__output=path, train__stage=tables))
    log = read_metrics(result.run_folder)
    assert [entry["temporal_weight"] for entry in log] == [0.0, 0.1, 0.1, 0.3]
    assert [entry["learning_rate"] for entry in log] == [2e-3, 2e-3, 2e-3, 0.0]
    facts = read_adapter_metadata(path)
    assert facts is not None
    assert facts.grid.cell == (32, 32)


def test_the_curriculum_that_ships_fits_its_card() -> None:
    shipped = load_profile("flux-dev-curriculum").profile
    stages = resolve_stages(shipped.train, shipped.grid.to_grid())
    assert [stage.grid.cell for stage in stages] == [(128, 128), (256, 256)]
    check_memory(shipped, stages, TRANSFORMER_CONFIG, 0.92 * 24)
