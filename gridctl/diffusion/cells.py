"""Cells of a grid's latents. A value is what one token holds, so cells end at token borders."""

from __future__ import annotations

import torch
from torch import Tensor

from gridctl.geometry import Grid


def split_cells(latents: Tensor, grid: Grid) -> Tensor:
    """A grid's latents (..., C, H, W) → its frames' (..., F, C, h, w), in frame order."""
    boxes = [box.slices for box in grid.boxes("token")]
    return torch.stack([latents[..., rows, cols] for rows, cols in boxes], dim=-4)


def join_cells(frames: Tensor, grid: Grid) -> Tensor:
    """Frames' latents (..., F, C, h, w) → the grid's (..., C, H, W); undoes `split_cells`."""
    width, height = grid.size("token")
    joined = frames.new_empty((*frames.shape[:-4], frames.shape[-3], height, width))
    for frame, box in enumerate(grid.boxes("token")):
        rows, cols = box.slices
        joined[..., rows, cols] = frames[..., frame, :, :, :]
    return joined


def cell_map(values: Tensor, grid: Grid) -> Tensor:
    """A value for each frame, (B, F) → the same value all over its cell, (B, 1, H, W)."""
    width, height = grid.cell_size("token")
    return join_cells(values[:, :, None, None, None].expand(-1, -1, 1, height, width), grid)
