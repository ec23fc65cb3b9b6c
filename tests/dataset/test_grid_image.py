"""Grid images: composing, splitting, saving, and finding their cells."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gridctl.dataset.grid_image import (
    compose,
    find_cells,
    load_grid,
    load_metadata,
    save_grid,
    scale_cells,
    split,
)
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid, Order
from tests.full_disk import needs_limits, room_for
from tests.media.colors import GREEN, WIDE, in_profile, matrix_profile

sides = st.integers(1, 3).map(lambda n: 16 * n)
grids = st.builds(
    Grid,
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    cell=st.tuples(sides, sides),
    order=st.sampled_from(get_args(Order)),
)


def noise(grid: Grid, seed: int = 0) -> np.ndarray:
    width, height = grid.cell
    shape = (grid.num_frames, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def metadata_of(grid: Grid, text: str | None = "ein Bär 熊 \U0001f43b läuft") -> GridMetadata:
    times = tuple(round(k / 8, 6) for k in range(grid.num_frames))
    return GridMetadata(
        grid=grid,
        source="Bär.mp4",
        times_seconds=times,
        fps=7.992008,
        num_frames=grid.num_frames,
        text=text,
    )


GRID = Grid(rows=2, cols=3, cell=(48, 32), order="serpentine")


@given(grids)
@settings(max_examples=60, deadline=None)
def test_compose_then_split_is_the_identity(grid: Grid) -> None:
    frames = noise(grid)
    image = compose(frames, grid)
    assert (image.shape[1], image.shape[0]) == grid.image_size
    assert np.array_equal(split(image, grid), frames)


@given(grids)
@settings(max_examples=30, deadline=None)
def test_frame_order(grid: Grid) -> None:
    width, height = grid.cell
    frames = np.zeros((grid.num_frames, height, width, 3), np.uint8)
    frames += np.arange(grid.num_frames, dtype=np.uint8)[:, None, None, None]
    cells = compose(frames, grid)[::height, ::width, 0]
    expected = np.arange(grid.num_frames).reshape(grid.rows, grid.cols)
    if grid.order == "serpentine":
        expected[1::2] = expected[1::2, ::-1]
    assert np.array_equal(cells, expected)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(UsageError):
        compose(noise(GRID)[:-1], GRID)
    with pytest.raises(UsageError):
        split(np.zeros((64, 128, 3), np.uint8), GRID)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_lossless_formats_are_bit_exact(tmp_path: Path, suffix: str) -> None:
    frames = noise(GRID)
    path = tmp_path / f"vid1.{suffix}"
    save_grid(compose(frames, GRID), path, metadata_of(GRID))
    image, metadata = load_grid(path)
    assert metadata == metadata_of(GRID)
    assert np.array_equal(split(image, GRID), frames)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_jpeg_is_444_and_has_metadata(tmp_path: Path, suffix: str) -> None:
    image = compose(noise(GRID) // 64 * 16 + 100, GRID)
    path = tmp_path / f"vid1.{suffix}"
    save_grid(image, path, metadata_of(GRID))
    back, metadata = load_grid(path)
    assert metadata == load_metadata(path) == metadata_of(GRID)
    assert np.abs(back.astype(int) - image).mean() < 4
    with Image.open(path) as opened:
        assert {layer[1:3] for layer in opened.layer} == {(1, 1)}  # no color subsampling


def test_quality(tmp_path: Path) -> None:
    image = compose(noise(GRID), GRID)
    save_grid(image, tmp_path / "fine.jpg", metadata_of(GRID), quality=95)
    save_grid(image, tmp_path / "coarse.jpg", metadata_of(GRID), quality=30)
    assert (tmp_path / "coarse.jpg").stat().st_size < (tmp_path / "fine.jpg").stat().st_size / 2
    with pytest.raises(UsageError, match="quality 0"):
        save_grid(image, tmp_path / "none.jpg", metadata_of(GRID), quality=0)


def test_metadata_survives_a_new_name(tmp_path: Path) -> None:
    save_grid(compose(noise(GRID), GRID), tmp_path / "vid1.jpg", metadata_of(GRID))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "vid1.jpg").rename(tmp_path / "elsewhere" / "x.jpg")
    assert load_metadata(moved) == metadata_of(GRID)


def test_an_image_from_elsewhere_has_no_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "OLYMPUS DIGITAL CAMERA"
    Image.new("L", (96, 64), 7).save(tmp_path / "photo.jpg", exif=exif)
    image, metadata = load_grid(tmp_path / "photo.jpg")
    assert metadata is None
    assert image.shape == (64, 96, 3)


def test_a_grid_that_was_scaled_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vid1.png"
    save_grid(compose(noise(GRID), GRID), path, metadata_of(GRID))
    with Image.open(path) as image:
        image.resize((72, 32)).save(path, exif=image.getexif())
    with pytest.raises(InputError, match="72x32 pixels, but its metadata says 144x64"):
        load_grid(path)


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    image = compose(noise(GRID), GRID)
    with pytest.raises(UsageError, match="bmp"):
        save_grid(image, tmp_path / "vid1.bmp", metadata_of(GRID))
    with pytest.raises(InputError, match="metadata"):
        save_grid(image, tmp_path / "vid1.jpg", metadata_of(GRID, text="long " * 20_000))
    assert list(tmp_path.iterdir()) == []


@needs_limits
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_disk_that_takes_a_part_is_an_error(tmp_path: Path, suffix: str, share: float) -> None:
    image, path = compose(noise(GRID), GRID), tmp_path / f"vid1.{suffix}"
    save_grid(image, path, metadata_of(GRID))
    whole = path.read_bytes()
    with (
        room_for(int(share * len(whole))),
        pytest.raises(InputError, match=r"cannot be written .File too large.; free some"),
    ):
        save_grid(image, path, metadata_of(GRID), force=True, durable=False)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_a_broken_image_is_one_error_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vid1.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"vid1\.jpg") as caught:
        load_grid(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vid1.png"
    save_grid(compose(noise(GRID), GRID), path, metadata_of(GRID))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"vid1\.png"):
        load_grid(path)


def test_cells_are_scaled_separately() -> None:
    frames = np.zeros_like(noise(GRID))
    frames[::2] = 255  # black and white neighbors: a pixel across a border would be gray
    small = scale_cells(compose(frames, GRID), GRID, (32, 16))
    assert small.shape == (32, 96, 3)
    assert set(np.unique(small)) == {0, 255}
    smaller = Grid(rows=2, cols=3, cell=(16, 16), order="serpentine")
    assert split(scale_cells(compose(frames, GRID), GRID, (16, 16)), smaller)[0].mean() == 255


def test_cells_are_not_enlarged() -> None:
    image = compose(noise(GRID), GRID)
    assert scale_cells(image, GRID, GRID.cell) is image
    with pytest.raises(UsageError, match="not enlarged"):
        scale_cells(image, GRID, (48, 48))


def test_a_sheet_is_read_upright_and_in_srgb(tmp_path: Path) -> None:
    profile = matrix_profile(WIDE["adobe"])
    sheet = in_profile(Image.new("RGB", (96, 64), GREEN), profile)
    sheet.paste("black", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = sheet.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "photo.png", exif=exif, icc_profile=profile)
    image, metadata = load_grid(tmp_path / "photo.png")
    assert metadata is None
    assert image.shape == (64, 96, 3)
    assert image[:32, :32].max() < 10
    assert tuple(image[40, 40].astype(int)) == pytest.approx(GREEN, abs=3)


def test_an_orientation_that_a_viewer_added_leaves_the_cells_in_place(tmp_path: Path) -> None:
    grid = Grid(rows=1, cols=2, cell=(16, 16))
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    metadata = GridMetadata(
        grid=grid, source="a.mp4", times_seconds=(0.0, 1.0), fps=1.0, num_frames=2
    )
    path = tmp_path / "vid1.png"
    save_grid(compose(frames, grid), path, metadata)
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 8
        image.copy().save(path, exif=exif)
    image, read = load_grid(path)
    assert read == metadata
    assert np.array_equal(split(image, grid), frames)


def drifting(count: int, side: int, seed: int) -> np.ndarray:
    """Frames of a smooth picture that drifts: with no line in it."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    large = np.asarray(
        Image.fromarray(small).resize((4 * side, 4 * side), Image.Resampling.BICUBIC)
    )
    return np.stack([large[k : k + side, 2 * k : 2 * k + side] for k in range(count)])


@pytest.mark.parametrize(("rows", "cols"), [(4, 6), (2, 2), (3, 5), (1, 4), (4, 1), (8, 8)])
@pytest.mark.parametrize("jpeg", [False, True])
def test_rows_and_columns_are_found(rows: int, cols: int, jpeg: bool) -> None:
    grid = Grid(rows=rows, cols=cols, cell=(64, 64))
    for seed in range(3):
        image = compose(drifting(grid.num_frames, 64, seed), grid)
        if jpeg:
            import io

            data = io.BytesIO()
            Image.fromarray(image).save(data, "JPEG", quality=90, subsampling="4:4:4")
            image = np.asarray(Image.open(data))
        found = find_cells(image)
        assert (found.rows, found.cols) == (rows, cols)
        assert found.is_sure


def test_cells_on_plain_backgrounds() -> None:
    from gridctl.tiny.render import render_clip
    from gridctl.tiny.scene import sample_scene

    grid = Grid(rows=4, cols=6, cell=(64, 64))
    found = []
    for seed in range(12):
        scene = sample_scene(np.random.default_rng(seed))
        image = compose(render_clip(scene, grid.num_frames, (64, 64)), grid)
        found.append(find_cells(image))
    assert {layout[:2] for layout in found if layout.is_sure} == {(4, 6)}


def test_images_without_seams() -> None:
    assert not find_cells(np.zeros((128, 192, 3), np.uint8)).is_sure
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    assert not find_cells(noise).is_sure
