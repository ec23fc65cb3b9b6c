"""Seams: guess from the pixels how many rows and columns of cells an image has.

There are two signs. Along the border of two cells, the picture jumps on the whole line. And
cells are frames of one clip, so the image resembles itself shifted by one cell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridctl.media.images import Picture

_LEAST_CELL = 16  # pixels
_MOST_CELLS = 32  # along a side
_STANDS_OUT = 1.3  # jump at a seam, relative to the lines beside it
_SURE = 0.5  # least confidence of a usable answer

Values = npt.NDArray[np.float32]


class Cells(NamedTuple):
    """Rows and columns, with a confidence from 0 to 1."""

    rows: int
    cols: int
    confidence: float

    @property
    def is_sure(self) -> bool:
        return self.confidence >= _SURE


def find_cells(image: Picture) -> Cells:
    """The most likely rows and columns of an image (H, W, 3)."""
    gray = image.astype(np.float32).mean(axis=-1)
    cols, cols_sure, cols_seen = _count_cells(gray)
    rows, rows_sure, rows_seen = _count_cells(gray.T)
    if 1 in (rows, cols) and (rows * cols <= 2 or not (rows_seen or cols_seen)):
        # A single row or column is plausible only if clear seams divide it the other way. And one
        # single line may be an edge in the picture.
        return Cells(rows, cols, 0.0 if rows == cols == 1 else 0.3)
    return Cells(rows, cols, round(min(rows_sure, cols_sure), 2))


def _count_cells(gray: Values) -> tuple[int, float, bool]:
    """Number of cells side by side in `gray` (H, W), the confidence, and whether seams show."""
    width = gray.shape[1]
    jumps = np.abs(np.diff(gray, axis=1))
    # Capped, because a seam runs along the whole line and a hard edge within a frame does not.
    jump_at = np.mean(np.minimum(jumps, 32), axis=0)  # at k: from column k to k + 1
    candidates = [
        count
        for count in range(2, min(_MOST_CELLS, width // _LEAST_CELL) + 1)
        if width % count == 0
    ]
    scores = {count: _seam_score(jump_at, width // count) for count in candidates}
    good = [count for count, score in scores.items() if score >= 0.75]
    if good:
        # The seams of three columns are every second seam of six, so the finest division wins.
        best = max(good)
        return best, scores[best], True
    # No line stands out, so this is a single cell unless the image repeats itself.
    repeats = {count: _repeat_score(gray, width // count) for count in candidates}
    most = max(repeats.values(), default=0.0)
    if most > 0.6:
        # It resembles itself shifted by two cells as well. Again the finest division wins.
        best = max(count for count, score in repeats.items() if score > max(0.5, 0.7 * most))
        return best, min(0.7, repeats[best]), False
    return 1, 0.9 - max(scores.values(), default=0.3), False


def _seam_score(jump_at: Values, cell: int) -> float:
    """Share of the borders between cells of `cell` pixels that stand out as lines."""
    borders = np.arange(cell - 1, len(jump_at), cell)
    reach = np.array([-6, -5, -4, -3, -2, 2, 3, 4, 5, 6])
    around = jump_at[np.clip(borders[:, None] + reach, 0, len(jump_at) - 1)]
    usual = around.max(axis=1) + 0.25
    return float((jump_at[borders] > _STANDS_OUT * usual).mean())


def _repeat_score(gray: Values, cell: int) -> float:
    """How well the image matches itself shifted by a cell, relative to half a cell: 0 to 1."""
    moved = float(np.abs(gray[:, cell:] - gray[:, :-cell]).mean())
    half = cell // 2
    between = float(np.abs(gray[:, half:] - gray[:, :-half]).mean())
    return max(0.0, 1 - moved / between) if between > 0.5 else 0.0
