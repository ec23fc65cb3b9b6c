"""Measurements: timers, phases and rows of results."""

from pathlib import Path

from gridctl.bench.gpu.meter import append_row, read_rows


def test_rows_are_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, {"a": 1, "path": tmp_path})
    append_row(path, {"a": 2})
    assert read_rows(path) == [{"a": 1, "path": str(tmp_path)}, {"a": 2}]
