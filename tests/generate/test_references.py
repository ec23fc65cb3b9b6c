"""Pictures and clips that tasks start from, fitted to the cells of a grid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import load_grid, split
from gridctl.errors import InputError, UsageError
from gridctl.generate.references import fit_for, read_clip, read_picture
from gridctl.geometry import Grid
from gridctl.media.fit import Fit
from gridctl.media.write import write_clip
from tests.generate.clips import RED, red_circle

Make = Callable[..., Any]
GRID = Grid(rows=2, cols=3, cell=(32, 32))
FIT = Fit(cell=(32, 32))


def test_a_cell_is_fitted_as_the_profile_packs(make_profile: Make) -> None:
    fit = fit_for(make_profile(pack__fit="pad", pack__background="#102030"), GRID)
    assert (fit.cell, fit.mode, fit.background) == ((32, 32), "pad", (16, 32, 48))


def test_a_picture_of_a_clip_is_its_first_frame(clip: Path, tmp_path: Path) -> None:
    assert np.array_equal(read_picture(clip, FIT), red_circle(10)[0])
    with pytest.raises(InputError, match="does not exist"):
        read_picture(tmp_path / "nowhere.png", FIT)


@pytest.mark.parametrize(
    ("options", "chosen", "fps"),
    [
        ({"sample": "uniform"}, [0, 2, 4, 5, 7, 9], 3.0),
        ({"sample": "windows"}, range(10), 5.0),
        ({"sample": "windows", "frames": 4, "least": 1}, [0, 3, 6, 9], 2.0),
        ({"sample": "uniform", "frames": 10}, range(10), 5.0),
    ],
)
def test_the_frames_of_a_clip(clip: Path, options: dict[str, Any], chosen: Any, fps: float) -> None:
    """They keep its length: fewer frames are shown for longer."""
    given = read_clip(clip, GRID, FIT, **options)
    assert np.array_equal(given.frames, red_circle(10)[list(chosen)])
    assert (given.fps, given.text) == (fps, None)


def test_a_clip_with_too_few_frames_is_refused(clip: Path, tmp_path: Path) -> None:
    write_clip(red_circle(3), tmp_path / "short.webp", fps=5)
    with pytest.raises(InputError, match=r"short\.webp has 3 frames, and the grid has 6 cells"):
        read_clip(tmp_path / "short.webp", GRID, FIT, sample="uniform")
    assert len(read_clip(tmp_path / "short.webp", GRID, FIT, sample="windows", least=3).frames) == 3
    with pytest.raises(InputError, match="has 10 frames, and 11 are asked for; ask for 10"):
        read_clip(clip, GRID, FIT, sample="uniform", frames=11)


@pytest.mark.parametrize("sample", ["scenes", "fps=8"])
def test_other_ways_to_sample_are_for_packing(clip: Path, sample: str) -> None:
    with pytest.raises(UsageError, match="is for packing; generating takes uniform, or windows"):
        read_clip(clip, GRID, FIT, sample=sample)


def test_a_grid_image_is_a_clip_with_its_own_words(dataset: Path) -> None:
    """Its caption without the layout prompt, which the adapter's own will replace."""
    path = sorted(dataset.glob("*.png"))[0]
    image, metadata = load_grid(path)
    assert metadata is not None
    given = read_clip(path, GRID, FIT, sample="uniform")
    assert np.array_equal(given.frames, split(image, metadata.grid))
    layout, caption = "2x3 grid of 6 video frames in reading order.", path.with_suffix(".txt")
    assert caption.read_text() == f"{layout} {given.text}\n"
    assert given.fps == metadata.fps


@pytest.mark.parametrize("side", [16, 48])
def test_a_grid_image_of_other_cells_is_fitted(dataset: Path, side: int) -> None:
    """Cell by cell, as the frames of any clip are."""
    path = sorted(dataset.glob("*.png"))[0]
    fit = Fit(cell=(side, side))
    frames = read_clip(path, GRID, fit, sample="uniform").frames
    image, _ = load_grid(path)
    wanted = [fit.image(Image.fromarray(own)) for own in split(image, GRID)]
    assert np.array_equal(frames, wanted)


def test_a_plain_picture_has_one_frame(tmp_path: Path) -> None:
    """Without metadata it is not a grid image."""
    Image.new("RGB", (96, 64), "red").save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png has 1 frames"):
        read_clip(tmp_path / "a.png", GRID, FIT, sample="uniform")


def test_a_caption_beside_a_clip_says_what_it_shows(clip: Path) -> None:
    clip.with_suffix(".txt").write_text(f"{RED}\n")
    assert read_clip(clip, GRID, FIT, sample="windows").text == RED
