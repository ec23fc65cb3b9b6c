import time

import pytest

from gridctl.cli.shell import progress_lines


def test_lines_of_progress_come_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = progress_lines("train", seconds=0.05)
    show(0, 100, "loss 0.5")
    assert capsys.readouterr().err == ""
    time.sleep(0.1)
    show(50, 100, "loss 0.4")
    show(51, 100, "loss 0.4")  # too soon for another line
    assert capsys.readouterr().err == "train: 50/100 loss 0.4, 0:00:00 left\n"
    time.sleep(0.1)
    show(0, 1, "loading the transformer")
    assert capsys.readouterr().err == "train: 0/1 loading the transformer\n"
