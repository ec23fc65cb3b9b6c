"""Measurements: timers and phases on a clock of the test's own, and rows of results."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gridctl.bench.gpu import meter
from gridctl.bench.gpu.meter import Phases, StepTimer, append_row, matrix_flops, read_rows


def clock(monkeypatch: pytest.MonkeyPatch, name: str, readings: Iterator[float]) -> None:
    monkeypatch.setattr(time, name, lambda: next(readings))


def test_rows_are_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, {"a": 1, "path": tmp_path})
    append_row(path, {"a": 2})
    assert read_rows(path) == [{"a": 1, "path": str(tmp_path)}, {"a": 2}]


def test_the_median_leaves_out_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, "monotonic", iter([10.0, 11.0, 13.0, 18.0, 99.0]))
    timer = StepTimer(tmp_path / "lock", "loss", steps=4)
    assert timer.median_seconds is None
    timer(0, 9, "first step")
    timer(0, 9, "loss")  # nothing is done yet
    for done in range(1, 6):  # the last one is after the lock was released
        timer(done, 9, f"loss {done}")
        timer(done, 9, "validation")
    assert timer.times == [10, 11, 13, 18, 99]
    assert timer.median_seconds == 2  # of 1, 2 and 5


def test_steps_wait_for_the_lock(tmp_path: Path) -> None:
    import fcntl

    timer = StepTimer(tmp_path / "lock", "loss", steps=2)
    timer(0, 2, "first step")
    with (tmp_path / "lock").open("w") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        timer(1, 2, "loss")
        timer(2, 2, "loss")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_phases_add_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, "monotonic", iter([0.0, 2.0, 5.0, 6.0, 10.0]))
    phases = Phases()
    for name in ("load", "load", "step", "load"):
        phases(name)
    assert phases.close() == {"start": 2, "load": 3 + 4, "step": 1}


def test_a_product_is_two_flops_for_each_multiplication(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([float(k) for k in range(100)])
    clock(monkeypatch, "perf_counter", readings)
    # Five products of 8x8 matrices in a second.
    assert matrix_flops(torch.device("cpu"), size=8) == 5 * 2 * 8**3


def test_without_a_gpu_memory_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert meter.peak_memory() == {"allocated_gib": None, "reserved_gib": None}
    assert meter.allocated_gib() is None
    assert meter.allocator() == {}


def test_gib_are_of_1024_cubed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 7 * 2**29)
    assert meter.peak_memory() == {"allocated_gib": 3.0, "reserved_gib": 3.5}
