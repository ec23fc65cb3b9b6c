import json
import sys
from pathlib import Path

import numpy as np
import pytest

from gridctl.__main__ import main
from gridctl.geometry import Grid
from gridctl.media.facts import Facts
from gridctl.media.grid_image import save_grid

GRID = Grid(rows=1, cols=1, cell=(16, 16))


@pytest.fixture(autouse=True)
def grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a grid that a name describes, and one that nothing does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDCTL_PROFILE", raising=False)
    for name in ("red_ball", "0001"):
        facts = Facts(grid=GRID, source=name, times_seconds=(0.0,), fps=1.0, num_frames=1)
        save_grid(np.zeros((16, 16, 3), np.uint8), Path("vidgrid", f"{name}.png"), facts)
    return tmp_path


def gridctl(*arguments: str) -> int:
    """Run the command line in this process → its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridctl", *arguments])
        try:
            return main()
        except SystemExit as end:
            return int(end.code or 0)


def test_what_has_no_content_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("caption", "vidgrid", "--json") == 3
    output = capsys.readouterr()
    assert json.loads(output.out)["written"] == ["vidgrid/red_ball.txt"]
    assert "--subject" in output.err


def test_subject_and_layout_come_from_flags_or_profile() -> None:
    Path("mine.toml").write_text('[caption]\nsubject = "a cat"\nlayout = "turn"\n')
    assert gridctl("caption", "vidgrid", "--profile", "mine.toml") == 0
    text = Path("vidgrid/0001.txt").read_text()
    assert text == "1x1 grid of 1 views of one full turn in reading order. a cat\n"
    flags = ["--layout", "{rows}/{cols}:", "--subject", "a dog", "--force"]
    assert gridctl("caption", "vidgrid", "--profile", "mine.toml", *flags) == 0
    assert Path("vidgrid/0001.txt").read_text() == "1/1: a dog\n"
    lines = Path("vidgrid/metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["1/1: a dog", "1/1: a dog"]


def test_a_wrong_layout_ends_with_2() -> None:
    assert gridctl("caption", "vidgrid", "--layout", "{wrong} grid") == 2
    assert not list(Path("vidgrid").glob("*.txt"))


def test_a_broken_image_does_not_take_the_rest_along(capsys: pytest.CaptureFixture[str]) -> None:
    Path("vidgrid/broken.jpg").write_bytes(b"no picture")
    assert gridctl("caption", "vidgrid", "--subject", "a ball", "--json") == 3
    output = capsys.readouterr()
    assert len(json.loads(output.out)["written"]) == 2
    assert "broken.jpg" in output.err
    listed = Path("vidgrid/metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["file_name"] for line in listed] == ["0001.png", "red_ball.png"]
