from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.bench.memory import bench_memory, measure
from gridctl.bench.random_base import bare_step, make_base
from gridctl.bench.sizes import MemorySizes
from gridctl.profile import load_profile
from tests.bench.sense import assert_makes_sense


def test_plans_grow_with_rank_and_batch() -> None:
    sizes = MemorySizes(presets=("24gb",), grids=((1, 2),), batches=(1, 2), ranks=(16, 32))
    report = bench_memory(sizes)
    assert_makes_sense(report.to_json(), bench="memory", repeats=1)
    (table,) = report.tables
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["batch"], row["rank"]) for row in rows] == [(1, 16), (1, 32), (2, 16), (2, 32)]
    assert rows[1]["LoRA"] == pytest.approx(2 * rows[0]["LoRA"], rel=0.05)
    assert rows[2]["activations"] > rows[0]["activations"]
    assert all(row["base"] == rows[0]["base"] > 5 for row in rows)
    assert all(row["fits"] == "yes" for row in rows)
    # 4.09 million parameters for each unit of rank: 4 bytes of weights, 2 of 8-bit AdamW's state.
    assert rows[1]["LoRA"] == pytest.approx(6 * 4.09e6 * 32 / 2**30, abs=0.01)
    measured = [row["measured training"] for row in rows]
    if report.notes:
        assert "no GPU" in report.notes[0]
        assert measured == [None] * 4
    else:
        assert all(value > 5 for value in measured)


def test_a_plan_that_exceeds_its_card_does_not_fit() -> None:
    sizes = MemorySizes(presets=("12gb", "24gb"), grids=((4, 6),), batches=(1,), ranks=(16, 256))
    (table,) = bench_memory(sizes).tables
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["fits"] for row in rows] == ["yes", "no", "yes", "yes"]
    for row in rows:
        parts = row["base"] + row["LoRA"] + row["activations"]
        assert row["planned peak"] == pytest.approx(max(parts, row["encoding"]), abs=0.02)


def test_two_steps_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[bool] = []

    def step(*arguments: Any, grad: bool) -> None:
        bare_step(*arguments, grad=grad)
        steps.append(grad)

    monkeypatch.setattr("gridctl.bench.memory.bare_step", step)
    base = make_base(tmp_path / "base", "small", device="cpu")
    values = {
        "model.base": str(base), "memory.device": "cpu", "grid.cell": "32x32", "grid.rows": 1,
        "grid.cols": 2, "train.rank": 4, "train.ema": 0.9, "memory.gradient_checkpointing": True,
        "model.text_tokens": 32,
    }  # fmt: skip
    assert measure(load_profile(None, values).profile) is None  # no GPU takes part
    assert steps == [True, True]  # the optimizer's state comes with the first


@pytest.mark.parametrize(
    ("flag", "value", "fault"),
    [
        ("--presets", "23gb", 'presets[0]: "23gb" is not known; choose 12gb, 16gb, 24gb'),
        ("--grids", "2x4,4", 'grids: "2x4,4" is not a list'),
        ("--grids", "0x4", 'grids: "0x4" is not a list'),
        ("--ranks", "32,0", "ranks[1]: 0 is out of range; the least is 1."),
        ("--batches", "", 'batches: "" is not a list'),
    ],
)
def test_a_value_that_cannot_be_is_named(
    flag: str, value: str, fault: str, gridctl: Callable[..., int], capsys: Any
) -> None:
    assert gridctl("bench", "memory", flag, value) == 2
    assert f"gridctl: command line: {fault}" in capsys.readouterr().err
