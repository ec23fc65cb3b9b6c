import pytest

from gridctl.cli.shell import progress_lines


def test_lines_of_progress_come_now_and_then_with_the_time_left(
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
