"""The loss: flow matching, and its agreement from frame to frame."""

from __future__ import annotations

import torch
from torch import Tensor

from gridctl.geometry import Grid
from gridctl.models.latents import split_cells


def flow_losses(
    predicted: Tensor,
    target: Tensor,
    grid: Grid,
    *,
    row_wraps: bool = True,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per sample, (B,) each: the mean squared error, and that of its step between frames.

    `predicted` and `target` are velocities (B, C, H, W) of grids. The second is L_flow of
    GRID (arXiv 2412.10718): the mean over consecutive frames of |D(v - u)|^2, with D the
    difference of neighbouring cells in frame order. If errors were independent between
    cells it would be twice the first; for an error shared by all frames it is 0.
    `row_wraps` False leaves out the steps from one row to the next, as the released code does.

    `kept` (B, F) marks frames that the model was given clean. They are not its to predict: their
    error counts as zero and the means are taken over the other frames, and over the steps that
    touch at least one of those. A step from a kept frame thus asks its neighbour to continue it.
    """
    error = split_cells((predicted - target).float(), grid)  # (B, F, C, h, w)
    free = error.new_ones(error.shape[:2]) if kept is None else (~kept).to(error)
    error = error * free[:, :, None, None, None]
    base = _mean(error.square().mean(dim=(2, 3, 4)), free)
    steps = (error[:, 1:] - error[:, :-1]).square().mean(dim=(2, 3, 4))  # (B, F-1)
    counted = torch.maximum(free[:, 1:], free[:, :-1])
    if not row_wraps:
        within = [k for k in range(grid.num_frames - 1) if not grid.is_row_wrap(k)]
        steps, counted = steps[:, within], counted[:, within]
    return base, _mean(steps, counted)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of each row of `values` (B, N) where `counted` is 1; 0 where it never is."""
    return (values * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
