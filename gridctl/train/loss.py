"""The loss: flow matching, and its agreement from frame to frame."""

from __future__ import annotations

from torch import Tensor

from gridctl.flux.latents import split_cells
from gridctl.geometry import Grid


def flow_losses(
    predicted: Tensor, target: Tensor, grid: Grid, *, row_wraps: bool = True
) -> tuple[Tensor, Tensor]:
    """Per sample, (B,) each: the mean squared error, and that of its step between frames.

    `predicted` and `target` are velocities (B, C, H, W) of grids. The second is L_flow of
    GRID (arXiv 2412.10718): the mean over consecutive frames of |D(v - u)|^2, with D the
    difference of neighbouring cells in frame order. If errors were independent between
    cells it would be twice the first; for an error shared by all frames it is 0.
    `row_wraps` False leaves out the steps from one row to the next, as the released code does.
    """
    error = split_cells((predicted - target).float(), grid)  # (B, F, C, h, w)
    base = error.square().mean(dim=(1, 2, 3, 4))
    steps = (error[:, 1:] - error[:, :-1]).square().mean(dim=(2, 3, 4))  # (B, F-1)
    if not row_wraps:
        within = [k for k in range(grid.num_frames - 1) if not grid.is_row_wrap(k)]
        steps = steps[:, within]
    if not steps.shape[1]:
        return base, base.new_zeros(base.shape)
    return base, steps.mean(dim=1)
