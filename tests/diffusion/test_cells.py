import torch
from hypothesis import given
from hypothesis import strategies as st

from gridctl.diffusion.cells import cell_map, join_cells, split_cells
from gridctl.geometry import Grid

grids = st.builds(
    Grid,
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    cell=st.tuples(st.sampled_from([16, 32, 48]), st.sampled_from([16, 32, 48])),
    order=st.sampled_from(["row-major", "serpentine"]),
)


@given(grid=grids)
def test_split_then_join_is_the_identity(grid: Grid) -> None:
    width, height = grid.size("token")
    latents = torch.arange(2 * 3 * height * width).reshape(2, 3, height, width)
    frames = split_cells(latents, grid)
    cell_width, cell_height = grid.cell_size("token")
    assert frames.shape == (2, grid.num_frames, 3, cell_height, cell_width)
    assert torch.equal(join_cells(frames, grid), latents)


@given(grid=grids)
def test_a_frame_is_the_cell_it_lies_in(grid: Grid) -> None:
    """The naive twin: every latent looked up on its own."""
    width, height = grid.size("token")
    cell_width, cell_height = grid.cell_size("token")
    latents = torch.arange(height * width).reshape(1, 1, height, width)
    frames = split_cells(latents, grid)
    for frame in range(grid.num_frames):
        row, col = divmod(frame, grid.cols)
        if grid.order == "serpentine" and row % 2 == 1:
            col = grid.cols - 1 - col
        for y in range(cell_height):
            for x in range(cell_width):
                where = (row * cell_height + y) * width + col * cell_width + x
                assert int(frames[0, frame, 0, y, x]) == where


@given(grid=grids)
def test_a_map_has_each_frames_value_in_its_cell(grid: Grid) -> None:
    values = torch.arange(2.0 * grid.num_frames).reshape(2, -1)
    width, height = grid.size("token")
    spread = cell_map(values, grid)
    assert spread.shape == (2, 1, height, width)
    for frame in range(grid.num_frames):
        rows, cols = grid.box(frame, "token").slices
        assert (spread[0, :, rows, cols] == frame).all()
        assert (spread[1, :, rows, cols] == grid.num_frames + frame).all()
