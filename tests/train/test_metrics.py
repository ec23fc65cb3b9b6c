import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.train import train
from gridctl.train.metrics import append_metrics, keep_metrics, read_metrics, smoothed

LINES = [json.dumps({"step": step, "loss": 0.5}) + "\n" for step in (1, 2, 3)]


def test_metrics_survive_a_crash(tmp_path: Path) -> None:
    """A line that was cut off is left out, and so is what a resumed run will do again."""
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(LINES) + '{"step": 4, "lo')
    assert [entry["step"] for entry in read_metrics(tmp_path)] == [1, 2, 3]
    assert [entry["step"] for entry in keep_metrics(tmp_path, 2)] == [1, 2]
    assert log.read_text() == "".join(LINES[:2])


@pytest.mark.parametrize("cut", ['{"step": 4, "lo', "{", '{"step": 4, "loss": 0.5}', "\0\0\0"])
def test_a_cut_line_does_not_take_the_next(tmp_path: Path, cut: str) -> None:
    """A run that resumes at the last whole line, or at one that only lacks its end."""
    (tmp_path / "metrics.jsonl").write_text("".join(LINES) + cut)
    keep_metrics(tmp_path, 3)
    append_metrics(tmp_path, {"step": 4, "loss": 0.25})
    assert [entry["step"] for entry in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert read_metrics(tmp_path)[-1]["loss"] == 0.25


def test_a_run_from_the_start_begins_a_new_log(tmp_path: Path) -> None:
    assert keep_metrics(tmp_path, 0) == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "validation": 1.0}\n' + LINES[0])
    assert keep_metrics(tmp_path, 0) == []
    assert read_metrics(tmp_path) == []


def test_smoothing_does_not_pull_towards_zero() -> None:
    assert smoothed([5.0, 5.0, 5.0]) == pytest.approx([5.0, 5.0, 5.0])
    assert smoothed([1.0, 2.0]) == pytest.approx([1.0, (0.9 * 1 + 2) / 1.9])
    assert smoothed([]) == []


def test_a_log_cut_by_a_crash_is_whole_again(
    make_profile: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    log = train(make_profile(train__output=path, train__steps=2)).run_folder / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 3, "lo')
    train(make_profile(train__output=path, train__steps=4))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3, 4]
