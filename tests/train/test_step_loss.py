import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.diffusion.cells import split_cells
from gridctl.geometry import Grid
from gridctl.train.step import flow_losses

grids = st.builds(
    Grid,
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    cell=st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 32])),
    order=st.sampled_from(["row-major", "serpentine"]),
)


def velocities(grid: Grid, seed: int, *, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width, height = grid.size("token")
    shape = (batch, 3, height, width)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def naive(
    predicted: torch.Tensor, target: torch.Tensor, grid: Grid, *, row_wraps: bool
) -> tuple[float, float, int]:
    """method.md's formula as it is written, for one sample: v and u differenced apart.

    |(v_{k+1} - v_k) - (u_{k+1} - u_k)|^2 over the pairs of consecutive frames, cut out by
    hand; the third value is the number of pairs.
    """

    def cell(image: torch.Tensor, frame: int) -> torch.Tensor:
        row, col = divmod(frame, grid.cols)
        if grid.order == "serpentine" and row % 2 == 1:
            col = grid.cols - 1 - col
        width, height = grid.cell[0] // 16, grid.cell[1] // 16
        return image[:, row * height : (row + 1) * height, col * width : (col + 1) * width]

    base = sum(float((predicted[c] - target[c]).square().sum()) for c in range(len(target)))
    steps = []
    for k in range(grid.rows * grid.cols - 1):
        if not row_wraps and k // grid.cols != (k + 1) // grid.cols:
            continue
        v = cell(predicted, k + 1) - cell(predicted, k)
        u = cell(target, k + 1) - cell(target, k)
        steps.append(float((v - u).square().mean()))
    return base / target.numel(), sum(steps) / len(steps) if steps else 0.0, len(steps)


@settings(deadline=None)
@given(grid=grids, row_wraps=st.booleans(), seed=st.integers(0, 999))
def test_the_losses_are_the_formula(grid: Grid, row_wraps: bool, seed: int) -> None:
    predicted, target = velocities(grid, seed)
    base, temporal = flow_losses(predicted, target, grid, row_wraps=row_wraps)
    assert base.shape == temporal.shape == (2,)
    for index in range(2):
        wanted = naive(predicted[index], target[index], grid, row_wraps=row_wraps)
        assert float(base[index]) == pytest.approx(wanted[0], rel=1e-4)
        assert float(temporal[index]) == pytest.approx(wanted[1], rel=1e-4)


@pytest.mark.parametrize(("row_wraps", "pairs"), [(True, 23), (False, 20)])
def test_the_paper_leaves_three_steps_out(row_wraps: bool, pairs: int) -> None:
    grid = Grid(rows=4, cols=6, cell=(16, 16))
    predicted, target = velocities(grid, 0)
    assert naive(predicted[0], target[0], grid, row_wraps=row_wraps)[2] == pairs
    # An error in a row's last frame and the next row's first: one pair fewer sees it.
    wrong = target.clone()
    top, left, bottom, right = 0, 5, 1, 6  # frame 5
    wrong[..., top:bottom, left:right] += 1.0
    _, temporal = flow_losses(wrong, target, grid, row_wraps=row_wraps)
    seen = 2 if row_wraps else 1
    assert float(temporal[0]) == pytest.approx(seen / pairs, rel=1e-5)


def test_independent_and_shared_errors() -> None:
    grid = Grid(rows=4, cols=6, cell=(64, 64), order="serpentine")
    predicted, target = velocities(grid, 0, batch=8)
    base, temporal = flow_losses(predicted, target, grid)
    assert float((temporal / base).mean()) == pytest.approx(2.0, rel=0.02)
    one = torch.randn(8, 3, 4, 4)
    shared = target + one.repeat(1, 1, 4, 6)
    base, temporal = flow_losses(shared, target, grid)
    assert float(base.mean()) == pytest.approx(float(one.square().mean()), rel=1e-3)
    assert float(temporal.max()) < 1e-10


def test_grids_without_steps() -> None:
    single, column = (Grid(rows=rows, cols=1, cell=(16, 16)) for rows in (1, 3))
    for grid, row_wraps in ((single, True), (column, False)):
        predicted, target = velocities(grid, 0)
        base, temporal = flow_losses(predicted, target, grid, row_wraps=row_wraps)
        assert temporal.tolist() == [0.0, 0.0]
        assert float(base.min()) > 0


def test_half_precision_is_squared_in_float32() -> None:
    grid = Grid(rows=1, cols=2, cell=(16, 16))
    predicted, target = velocities(grid, 0)
    base, temporal = flow_losses((300 * predicted).half(), torch.zeros_like(target).half(), grid)
    assert base.dtype == temporal.dtype == torch.float32
    assert torch.isfinite(base).all()
    assert torch.isfinite(temporal).all()


def test_gradients_reach_every_cell() -> None:
    grid = Grid(rows=2, cols=2, cell=(16, 16))
    predicted, target = velocities(grid, 0)
    predicted.requires_grad_()
    flow_losses(predicted, target, grid)[1].sum().backward()
    assert predicted.grad is not None
    assert bool((split_cells(predicted.grad, grid).abs().amax(dim=(0, 2, 3, 4)) > 0).all())
