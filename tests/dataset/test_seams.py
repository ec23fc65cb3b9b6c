import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import compose, find_cells
from gridctl.geometry import Grid


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
