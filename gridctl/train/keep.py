"""Clean cells: frames that a training sample is given instead of having to draw.

Putting known frames back at each sampling step is not enough: the drawn frames do not go on
from them. An adapter that has seen clean cells in training does continue them, so one adapter
learns image to video, interpolation and continuation (docs/lab/ has the comparison).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gridctl.geometry import Grid
from gridctl.models.latents import join_cells
from gridctl.profile import KeepPattern


def draw_kept(
    probability: float, patterns: Sequence[KeepPattern], grid: Grid, generator: torch.Generator
) -> Tensor:
    """(F,) bool: the frames of one sample that stay clean.

    With `probability` one of `patterns` is chosen, each as likely as the others; otherwise
    no frame is kept. At least one frame is always left to draw.
    """
    kept = torch.zeros(grid.num_frames, dtype=torch.bool)
    if grid.num_frames == 1 or float(torch.rand((), generator=generator)) >= probability:
        return kept
    pattern = patterns[_draw_int(0, len(patterns) - 1, generator)]
    kept[_frames(pattern, grid, generator)] = True
    if kept.all():
        kept[-1] = False
    return kept


def _frames(pattern: KeepPattern, grid: Grid, generator: torch.Generator) -> list[int]:
    count = grid.num_frames
    match pattern:
        case "first":
            return [0]
        case "last":
            return [count - 1]
        case "ends":
            return [0, count - 1]
        case "head":  # what continuing a clip needs
            return list(range(_draw_int(2, max(2, count // 2), generator)))
        case "every":  # key frames, as interpolation has them
            return list(range(0, count, _draw_int(2, max(2, count // 2), generator)))
        case "column":
            col = _draw_int(0, grid.cols - 1, generator)
            return [grid.frame_at(row, col) for row in range(grid.rows)]
        case "few":
            size = _draw_int(1, max(1, count // 4), generator)
            return torch.randperm(count, generator=generator)[:size].tolist()


def _draw_int(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def kept_map(kept: Tensor, grid: Grid) -> Tensor:
    """Kept frames (B, F) → the latent positions they cover, (B, 1, H, W), both bool."""
    width, height = grid.cell_size("latent")
    frames = kept[:, :, None, None, None].expand(-1, -1, 1, height, width)
    return join_cells(frames, grid)
