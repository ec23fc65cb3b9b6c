"""What a run says about the dataset that it made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.geometry import Grid
from gridctl.pack import pack
from gridctl.pack.clip import ClipSummary
from gridctl.pack.run import Summary
from tests.media.clips import make_clip, textured
from tests.settings import pack_profile

GRID = Grid(rows=2, cols=2, cell=(32, 32))


def summary(sources: list[Path], output: Path, grid: Grid = GRID, **keys: object) -> Summary:
    made = pack(sources, output, pack_profile(grid, **keys)).summary
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("keys", "grids", "fps", "seconds"),
    [
        ({}, 1, 2.0, 2.0),  # 4 frames of 2 seconds
        ({"sample": "windows"}, 5, 10.0, 0.4),
        ({"sample": "windows", "stride": 2}, 2, 5.0, 0.8),
        ({"sample": "fps=5"}, 2, 5.0, 0.8),
        ({"sample": "fps=8", "start": 1}, 2, 8.0, 0.5),
    ],
)
def test_it_says_the_rate_and_the_length_of_a_grid(
    keys: dict[str, object], grids: int, fps: float, seconds: float, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", textured(20), fps=10)
    made = summary([clip], tmp_path / "out", **keys)
    assert (made.grids, made.fps) == (grids, pytest.approx(fps, rel=0.06))
    assert made.seconds_per_grid == pytest.approx(seconds, rel=0.06)
    assert made.grids_at_suggested_fps == (2 if "start" in keys else 4)
    again = summary([clip], tmp_path / "out", **keys)  # from the grids that are there
    assert (again.grids, again.fps) == (made.grids, made.fps)
    assert again.seconds_per_grid == made.seconds_per_grid


@pytest.mark.parametrize(
    ("cell", "fit", "cropped"),
    [((32, 32), "crop", 0.5), ((64, 32), "crop", 0.0), ((32, 32), "pad", None)],
)
def test_it_says_how_much_of_a_frame_is_cut_off(
    cell: tuple[int, int], fit: str, cropped: float | None, tmp_path: Path
) -> None:
    wide = np.zeros((4, 64, 128, 3), np.uint8)
    clip = make_clip(tmp_path / "clip.mp4", wide, fps=10)
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, picture in enumerate(wide):
        Image.fromarray(picture).save(frames / f"{number}.png")
    grid = Grid(rows=2, cols=2, cell=cell)
    for source in (clip, frames):
        made = summary([source], tmp_path / "out", grid, fit=fit)
        assert made.cropped == (None if cropped is None else pytest.approx(cropped, abs=0.05))


def test_a_slideshow_gets_a_warning() -> None:
    slow = ClipSummary(
        grids=1, fps=0.8, seconds_per_grid=30, cropped=0.4375, grids_at_suggested_fps=10
    )
    good = ClipSummary(grids=3, fps=8, seconds_per_grid=3, cropped=None, grids_at_suggested_fps=3)
    mixed = Summary.of([slow, good, good])
    assert mixed is not None
    assert str(mixed) == (
        "7 grids: 8 frames a second (0.8 to 8), 3 seconds per grid, 44% of each frame cropped"
    )
    assert mixed.warning() == (
        "1 of 3 clips give grids below 4 frames a second, from which an adapter learns slideshows; "
        "--sample fps=8 makes about 16 grids of these clips"
    )
    fine = Summary.of([good])
    assert fine is not None
    assert fine.warning() is None
    assert Summary.of([]) is None


def test_nothing_packed_has_no_summary(tmp_path: Path) -> None:
    assert pack([tmp_path / "missing.mp4"], tmp_path / "out").summary is None
