import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import load_grid, split
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.profile import Profile
from gridctl.progress import silent
from gridctl.train.data import check_captions, load_frames, read_dataset
from gridctl.train.setup import set_up

GRID = Grid(rows=2, cols=3, cell=(32, 32))


@pytest.fixture
def folder(dataset: Path, tmp_path: Path) -> Path:
    """The small dataset, to change."""
    return Path(shutil.copytree(dataset, tmp_path / "vidgrid"))


def test_samples_are_the_grids_with_their_captions(folder: Path) -> None:
    data = read_dataset(folder, GRID)
    train, val = data.train, data.validation
    assert [sample.image.name for sample in train] == [f"clip_000{k}.png" for k in (1, 2, 3, 4)]
    assert val == ()
    assert data.excluded == ()
    assert str(data) == "4 grids to train on, 12 frames a second, 0.5 seconds a grid"
    for sample in train:
        assert sample.captions == (sample.image.with_suffix(".txt").read_text().strip(),)
        assert sample.captions[0].startswith("2x3 grid of 6 video frames")
        assert sample.contents[0] == sample.captions[0].partition(" order. ")[2]
        assert sample.metadata is not None
        assert sample.metadata.grid == GRID
    assert len({sample.digest for sample in train}) == 4


def test_each_line_is_a_caption(folder: Path) -> None:
    text = (folder / "clip_0001.txt").read_text().strip()
    (folder / "clip_0001.txt").write_text(f"{text}\n\n  a shape that moves \n")
    data = read_dataset(folder, GRID)
    assert data.train[0].captions == (text, "a shape that moves")
    assert data.train[0].contents[1] == "a shape that moves"
    assert "4 grids to train on, 5 captions" in str(data)


def test_val_is_for_validation(folder: Path) -> None:
    (folder / "val").mkdir()
    (folder / "train").mkdir()
    for suffix in (".png", ".txt"):
        (folder / f"clip_0004{suffix}").rename(folder / "val" / f"clip_0004{suffix}")
        (folder / f"clip_0003{suffix}").rename(folder / "train" / f"clip_0003{suffix}")
    data = read_dataset(folder, GRID)
    train, val = data.train, data.validation
    assert [s.image.relative_to(folder).as_posix() for s in train] == [
        "clip_0001.png",
        "clip_0002.png",
        "train/clip_0003.png",
    ]
    assert [s.image.relative_to(folder).as_posix() for s in val] == ["val/clip_0004.png"]


def test_only_validation_is_nothing_to_train_on(folder: Path) -> None:
    folder.rename(folder.parent / "val")
    (folder.parent / "all").mkdir()
    (folder.parent / "val").rename(folder.parent / "all" / "val")
    with pytest.raises(InputError, match="grids in val/ only"):
        read_dataset(folder.parent / "all", GRID)


def test_a_missing_caption_names_the_way(folder: Path) -> None:
    (folder / "clip_0002.txt").unlink()
    (folder / "clip_0003.txt").write_text(" \n")
    with pytest.raises(
        InputError,
        match=r"2 of 4 .* 2 without a caption, such as clip_0002\.png \(run `grid",
    ):
        read_dataset(folder, GRID)


def test_a_few_unusable_grids_are_left_out_and_counted(folder: Path) -> None:
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    for k in range(30):
        Image.fromarray(pixels + k).save(folder / f"more_{k}.png")
        (folder / f"more_{k}.txt").write_text("gray")
    (folder / "more_3.txt").unlink()
    (folder / "more_4.txt").unlink()
    (folder / "more_5.png").write_bytes(b"no image")
    (folder / "more_7.png").write_bytes((folder / "more_6.png").read_bytes())
    data = read_dataset(folder, GRID)
    assert len(data.train) == 31
    assert {e.image.name: e.reason for e in data.excluded} == {
        "more_3.png": "without a caption",
        "more_4.png": "without a caption",
        "more_5.png": "that cannot be read",
    }
    told = str(data)
    assert "31 grids to train on" in told
    assert "1 of them copies of others" in told
    assert "3 grids left out: 2 without a caption, such as more_3.png (run `gridctl cap" in told
    assert "; 1 that cannot be read, such as more_5.png (" in told
    assert "\n" not in told
    (folder / "more_8.txt").unlink()
    with pytest.raises(InputError, match="4 of 34 grids in"):
        read_dataset(folder, GRID)


@pytest.mark.parametrize(
    "grid",
    [
        Grid(rows=3, cols=2, cell=(32, 32)),
        Grid(rows=2, cols=3, cell=(32, 32), order="serpentine"),
        Grid(rows=1, cols=6, cell=(32, 32)),
    ],
)
def test_another_layout_is_refused(folder: Path, grid: Grid) -> None:
    with pytest.raises(InputError, match="it is 2x3 row-major and the profile's grid is"):
        read_dataset(folder, grid)


@pytest.mark.parametrize("cell", [(48, 32), (32, 48), (64, 64)])
def test_cells_are_not_enlarged(folder: Path, cell: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="would be enlarged"):
        read_dataset(folder, Grid(rows=2, cols=3, cell=cell))


def test_cells_are_scaled_down_each_by_itself(folder: Path) -> None:
    image = folder / "clip_0001.png"
    small = load_frames(image, Grid(rows=2, cols=3, cell=(16, 16)))
    whole = split(load_grid(image)[0], GRID)
    assert small.shape == (6, 16, 16, 3)
    # The naive twin: each 2x2 block's mean, frame by frame; Lanczos is near it.
    means = whole.reshape(6, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(means - small).mean() < 6
    assert np.array_equal(load_frames(image, GRID), whole)


def test_a_grid_from_elsewhere_has_the_profiles_layout(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat")
    samples = read_dataset(tmp_path, GRID).train
    assert np.array_equal(load_frames(samples[0].image, GRID), split(pixels, GRID))
    with pytest.raises(InputError, match="no gridctl metadata"):
        load_frames(samples[0].image, Grid(rows=2, cols=5, cell=(16, 16)))
    with pytest.raises(UsageError, match="not enlarged"):
        load_frames(samples[0].image, Grid(rows=1, cols=3, cell=(32, 80)))


def test_captions_that_say_nothing_stop_a_run(
    folder: Path, make_profile: Callable[..., Profile]
) -> None:
    for number in range(1, 5):
        (folder / f"clip_000{number}.txt").write_text(f"IMG_471{number}")
    profile = make_profile(train__data=folder, model__base="nobody/nothing")
    with pytest.raises(InputError, match="4 captions of 4 grids do not say what the clip shows"):
        set_up(profile, progress=silent)


def test_faults_of_captions_are_listed(folder: Path, make_profile: Callable[..., Profile]) -> None:
    profile = make_profile(train__data=folder)
    data = read_dataset(folder, profile.grid.to_grid())
    assert check_captions([data], profile) == []
    path = folder / "clip_0001.txt"
    path.write_text("9x9 grid of 81 video frames in reading order. a cat\n")
    data = read_dataset(folder, profile.grid.to_grid())
    (fault,) = check_captions([data, data], profile)
    assert fault.startswith(f'{path}: says "9x9 grid of 81')
