"""Seams: how many rows and columns of cells an image without facts has, by its pixels.

Two signs are weighed. Where one cell ends and the next begins, the picture jumps along the
whole line. And cells are frames of one clip, so an image looks like itself moved by a cell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridctl.media.images import Picture

_LEAST_CELL = 16  # pixels
_MOST_CELLS = 32  # along a side
_STANDS_OUT = 1.3  # a seam's jump over those of the lines beside it
_SURE = 0.5  # from which confidence on an answer is one

Profile = npt.NDArray[np.float32]


class Layout(NamedTuple):
    """Rows and columns, and from 0 to 1 how sure that is."""

    rows: int
    cols: int
    confidence: float

    @property
    def is_sure(self) -> bool:
        return self.confidence >= _SURE


def find_layout(image: Picture) -> Layout:
    """The grid that an image (H, W, 3) seems to be."""
    grey = image.astype(np.float32).mean(axis=-1)
    cols, cols_sure, cols_seen = _count_cells(grey)
    rows, rows_sure, rows_seen = _count_cells(grey.T)
    if 1 in (rows, cols) and (rows * cols <= 2 or not (rows_seen or cols_seen)):
        # Seams on one side make their absence on the other a sign; nothing else does. And a
        # single line may be an edge in the picture.
        return Layout(rows, cols, 0.0 if rows == cols == 1 else 0.3)
    return Layout(rows, cols, round(min(rows_sure, cols_sure), 2))


def _count_cells(grey: Profile) -> tuple[int, float, bool]:
    """How many cells lie side by side in `grey` (H, W), how sure that is, and whether their
    seams are seen."""
    width = grey.shape[1]
    jumps = np.abs(np.diff(grey, axis=1))
    # Capped: a seam runs along the whole line, a hard edge within a frame does not.
    profile = np.mean(np.minimum(jumps, 32), axis=0)  # at k: from column k to k + 1
    candidates = [
        count
        for count in range(2, min(_MOST_CELLS, width // _LEAST_CELL) + 1)
        if width % count == 0
    ]
    scores = {count: _seam_score(profile, width // count) for count in candidates}
    good = [count for count, score in scores.items() if score >= 0.75]
    if good:
        # Every second seam of six columns are the seams of three: the finest wins.
        best = max(good)
        return best, scores[best], True
    # No line stands out: a single cell, unless the image repeats itself.
    repeats = {count: _repeat_score(grey, width // count) for count in candidates}
    most = max(repeats.values(), default=0.0)
    if most > 0.6:
        # Moved by two cells it looks like itself as well: here, too, the finest wins.
        best = max(count for count, score in repeats.items() if score > max(0.5, 0.7 * most))
        return best, min(0.7, repeats[best]), False
    return 1, 0.9 - max(scores.values(), default=0.3), False


def _seam_score(profile: Profile, cell: int) -> float:
    """The share of the borders between cells of `cell` pixels that stand out as lines."""
    borders = np.arange(cell - 1, len(profile), cell)
    reach = np.array([-6, -5, -4, -3, -2, 2, 3, 4, 5, 6])
    around = profile[np.clip(borders[:, None] + reach, 0, len(profile) - 1)]
    usual = around.max(axis=1) + 0.25
    return float((profile[borders] > _STANDS_OUT * usual).mean())


def _repeat_score(grey: Profile, cell: int) -> float:
    """How much more the image looks like itself when it is moved by a cell, 0 to 1."""
    moved = float(np.abs(grey[:, cell:] - grey[:, :-cell]).mean())
    half = cell // 2
    between = float(np.abs(grey[:, half:] - grey[:, :-half]).mean())
    return max(0.0, 1 - moved / between) if between > 0.5 else 0.0
