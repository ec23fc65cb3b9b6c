from pathlib import Path

import pytest

from gridctl.cli.shell import grouped, progress_lines


def test_messages_that_differ_in_names_are_counted() -> None:
    paths = [f"clips/holiday {number} of 3.mp4" for number in range(10_000)]
    failures = [(f"{path} ends after {len(path)} seconds; replace it.", path) for path in paths]
    other = ("clips/b.mp4 does not exist; check the name.", "clips/b.mp4")
    lines = grouped([*failures[:5], other, *failures[5:]])
    assert lines == [
        failures[0][0],
        failures[1][0],
        "... and 9,998 more like this; --json lists all.",
        other[0],
    ]


def test_few_messages_are_all_shown() -> None:
    notes = [(f"{Path('a') / str(k)}.mp4 has {k} frames left over.", "") for k in range(3)]
    assert grouped(notes) == [text for text, _ in notes]
    kinds = [("because " * number, "") for number in range(30)]
    assert grouped(kinds)[20:] == ["... and 10 others; --json lists all."]


def test_progress_lines_are_rare_and_show_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    show = progress_lines("train", seconds=30)
    show(0, 100, "loss 0.5")
    assert capsys.readouterr().err == ""
    now += 60
    show(50, 100, "loss 0.4")
    now += 29
    show(51, 100, "loss 0.4")  # too soon for another line
    assert capsys.readouterr().err == "train: 50/100 loss 0.4, 0:01:00 left\n"
    now += 1
    show(0, 1, "loading the transformer")
    assert capsys.readouterr().err == "train: 0/1 loading the transformer\n"
