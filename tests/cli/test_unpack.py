import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.__main__ import main
from gridctl.dataset.grid_image import compose, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.geometry import Grid

GRID = Grid(rows=2, cols=2, cell=(16, 16))
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two grids with metadata and an image without."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDCTL_PROFILE", raising=False)
    metadata = GridMetadata(
        grid=GRID, source="a.mp4", times_seconds=(0.0, 0.1, 0.2, 0.3), fps=10.0, num_frames=4
    )
    for name in ("vid1", "vid2"):
        save_grid(compose(FRAMES, GRID), Path("vidgrid", f"{name}.png"), metadata)
    Image.fromarray(compose(FRAMES, GRID)).save("foreign.png")
    return tmp_path


def gridctl(*arguments: str) -> int:
    """Run the command line in this process → its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridctl", *arguments])
        try:
            return main()
        except SystemExit as end:
            return int(end.code or 0)


def test_one_grid_needs_no_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("unpack", "vidgrid/vid1.png", "-o", "clip.mp4") == 0
    assert capsys.readouterr() == ("clip.mp4\n", "")
    assert gridctl("unpack", "vidgrid/vid1.png", "-o", "take.1/") == 0
    back = [np.asarray(Image.open(path)) for path in sorted(Path("take.1").glob("*.png"))]
    assert np.array_equal(np.stack(back), FRAMES)


def test_a_folder_of_grids(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("unpack", "vidgrid", "-o", "clips", "--format", "gif") == 0
    assert capsys.readouterr().out.splitlines() == ["clips/vid1.gif", "clips/vid2.gif"]


def test_an_image_without_facts_needs_its_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("unpack", "foreign.png", "-o", "frames") == 1  # never by the default grid
    assert "--rows and --cols" in capsys.readouterr().err
    assert not Path("frames").exists()
    assert gridctl("unpack", "foreign.png", "-o", "frames", "--rows", "2", "--cols", "2") == 0
    Path("mine.toml").write_text("[grid]\nrows = 2\ncols = 2\n")
    assert gridctl("unpack", "foreign.png", "-o", "more", "--profile", "mine.toml") == 0


def test_a_profile_does_not_overrule_facts() -> None:
    Path("gridctl.toml").write_text("[grid]\nrows = 1\ncols = 1\n")
    assert gridctl("unpack", "vidgrid/vid1.png", "-o", "frames") == 0
    assert len(list(Path("frames").glob("*.png"))) == 4


@pytest.mark.parametrize(
    "flags", [["-o", "clip.avi"], ["-o", "clip.mp4", "--format", "avi"], ["--fps", "8"]]
)
def test_wrong_usage_ends_with_2(flags: list[str]) -> None:
    assert gridctl("unpack", "vidgrid/vid1.png", *flags) == 2
    assert not Path("clip.avi").exists()
