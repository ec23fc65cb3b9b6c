import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.media.grid_image import load_grid, split
from gridctl.train.data import Sample, load_frames, mix_seed, read_samples, slot_samples

GRID = Grid(rows=2, cols=3, cell=(32, 32))


@pytest.fixture
def folder(dataset: Path, tmp_path: Path) -> Path:
    """The small dataset, to change."""
    return Path(shutil.copytree(dataset, tmp_path / "vidgrid"))


def test_samples_are_the_grids_with_their_captions(folder: Path) -> None:
    train, val = read_samples(folder, GRID)
    assert [sample.image.name for sample in train] == [f"clip_000{k}.png" for k in (1, 2, 3, 4)]
    assert val == []
    for sample in train:
        assert sample.caption == sample.image.with_suffix(".txt").read_text().strip()
        assert sample.caption.startswith("2x3 grid of 6 video frames")
    assert len({sample.digest for sample in train}) == 4


def test_val_is_for_validation(folder: Path) -> None:
    (folder / "val").mkdir()
    (folder / "train").mkdir()
    for suffix in (".png", ".txt"):
        (folder / f"clip_0004{suffix}").rename(folder / "val" / f"clip_0004{suffix}")
        (folder / f"clip_0003{suffix}").rename(folder / "train" / f"clip_0003{suffix}")
    train, val = read_samples(folder, GRID)
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
    with pytest.raises(InputError, match="only val/"):
        read_samples(folder.parent / "all", GRID)


def test_a_missing_caption_names_the_way(folder: Path) -> None:
    (folder / "clip_0002.txt").unlink()
    (folder / "clip_0003.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"2 of 4 grids .*clip_0002.png; run `gridctl caption"):
        read_samples(folder, GRID)


@pytest.mark.parametrize(
    "grid",
    [
        Grid(rows=3, cols=2, cell=(32, 32)),
        Grid(rows=2, cols=3, cell=(32, 32), order="serpentine"),
        Grid(rows=1, cols=6, cell=(32, 32)),
    ],
)
def test_another_layout_is_refused(folder: Path, grid: Grid) -> None:
    with pytest.raises(InputError, match="is 2x3 row-major, the profile's grid is"):
        read_samples(folder, grid)


@pytest.mark.parametrize("cell", [(48, 32), (32, 48), (64, 64)])
def test_cells_are_not_enlarged(folder: Path, cell: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="would enlarge"):
        read_samples(folder, Grid(rows=2, cols=3, cell=cell))


def test_cells_are_scaled_down_each_by_itself(folder: Path) -> None:
    image = folder / "clip_0001.png"
    small = load_frames(image, Grid(rows=2, cols=3, cell=(16, 16)))
    whole = split(load_grid(image)[0], GRID)
    assert small.shape == (6, 16, 16, 3)
    # The naive twin: each 2x2 block's mean, frame by frame; Lanczos is near it.
    means = whole.reshape(6, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(means - small).mean() < 6
    assert np.array_equal(load_frames(image, GRID), whole)


def test_a_grid_from_elsewhere_is_taken_as_the_profile_says(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat")
    samples, _ = read_samples(tmp_path, GRID)
    assert np.array_equal(load_frames(samples[0].image, GRID), split(pixels, GRID))
    with pytest.raises(InputError, match="no gridctl facts"):
        load_frames(samples[0].image, Grid(rows=2, cols=5, cell=(16, 16)))
    with pytest.raises(UsageError, match="not enlarged"):
        load_frames(samples[0].image, Grid(rows=1, cols=3, cell=(32, 80)))


def samples(count: int) -> list[Sample]:
    return [
        Sample(image=Path(f"{k}.png"), caption=str(k), content=str(k), digest=str(k))
        for k in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_every_round_has_every_sample_once(count: int) -> None:
    some = samples(count)
    for round_ in range(3):
        chosen = slot_samples(some, seed=3, first=round_ * count, count=count)
        assert sorted(s.digest for s in chosen) == sorted(s.digest for s in some)


def test_the_order_is_a_function_of_seed_and_slot() -> None:
    some = samples(7)
    whole = slot_samples(some, seed=3, first=0, count=28)
    pieces = [slot_samples(some, seed=3, first=k, count=1)[0] for k in range(28)]
    by_three = [s for k in range(0, 27, 3) for s in slot_samples(some, seed=3, first=k, count=3)]
    assert whole == pieces
    assert whole[:27] == by_three
    assert whole[:7] != whole[7:14]  # shuffled anew
    assert whole != slot_samples(some, seed=4, first=0, count=28)


def test_seeds_are_mixed_without_collisions() -> None:
    seeds = {mix_seed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert mix_seed(1, 2, 3) == mix_seed(1, 2, 3)
    assert all(0 <= seed < 2**64 for seed in seeds)
