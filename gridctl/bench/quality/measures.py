"""Measures: how much clips change from frame to frame, beside how much they should.

A *step* is the mean absolute difference of two neighbouring frames, in 8-bit levels. A *jump* is
a step at a place where something could break: from a given frame to a drawn one, from one grid of
a long clip to the next, from the end of a grid's row to the next row.

Each take has pairs (step there, step beside it): for given frames the true clip's step at the same
place, otherwise the mean of the clip's other steps. The figure is a ratio of sums over all takes,
so that clips that stand still count (their true step is 0) and none counts by a ratio of its own.
Its interval comes from drawing the takes again, with replacement.

A given frame is exact, and a drawn one has been decoded. So a perfect model would not reach 1: part
`vae` measures the jump of true clips of which all frames but the given one went through the VAE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gridctl.bench.quality.cases import LONG, Case
from gridctl.generate.windows import window_starts
from gridctl.geometry import Grid
from gridctl.media.images import Frames

FROM_FIRST = ("i2v", "interpolate", "multiview")  # parts that are given the first frame
GRID_FRAMES = 24  # of the grids that a long clip is made of
_RESAMPLED = 2000  # times that takes are drawn again

Pair = tuple[float, float]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A value that is no share, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[Any], summary: Callable[[_Floats], float]) -> Figure:
        """`summary` of all takes' values (N, ...), and its spread over resampled takes."""
        rows = np.asarray(values, np.float64)
        chosen = np.random.default_rng(0).integers(len(rows), size=(_RESAMPLED, len(rows)))
        drawn = [summary(rows[some]) for some in chosen]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        return cls(summary(rows), float(low), float(high))


def ratio_of_sums(pairs: _Floats) -> float:
    """The sum of the first of each pair (N, 2) over that of the second; NaN over nothing."""
    top, bottom = pairs.sum(0)
    return float(top / bottom) if bottom > 0 else float("nan")


def steps_of(frames: Frames) -> _Floats:
    """(F-1,) How much each frame (F, H, W, 3) differs from the next, in 8-bit levels."""
    pairs = pairwise(frames.astype(float))
    return np.array([np.abs(after - before).mean() for before, after in pairs])


def measure_jumps(case: Case, frames: Frames, grid: Grid | None = None) -> dict[str, Pair]:
    """The pairs of a case's part, by name. `grid` is that of clips of one grid."""
    steps = steps_of(frames)
    if case.part in LONG:
        return {"jump at a seam, beside other steps": _beside(steps, _seams(len(frames)))}
    if case.part in ("t2v", "turn") and grid and grid.num_frames == len(frames):
        wraps = [frame for frame in range(len(steps)) if grid.is_row_wrap(frame)]
        return {"jump at a row's end, beside other steps": _beside(steps, wraps)} if wraps else {}
    truth = case.truth(len(frames), (frames.shape[2], frames.shape[1]))
    true = steps_of(truth)
    if case.part == "vae":
        decoded = steps_of(np.concatenate([truth[:1], frames[1:2]]))
        return {"jump from the first frame": (float(decoded[0]), float(true[0]))}
    measures: dict[str, Pair] = {}
    if case.part in FROM_FIRST:
        measures["jump from the first frame"] = (float(steps[0]), float(true[0]))
    if case.part == "interpolate":
        measures["jump to the last frame"] = (float(steps[-1]), float(true[-1]))
    return measures


def _beside(steps: _Floats, at: Sequence[int]) -> Pair:
    """(mean of the steps after frames `at`, mean of all others)."""
    return float(steps[list(at)].mean()), float(np.delete(steps, at).mean())


def _seams(count: int) -> list[int]:
    """The last frames of all grids but the last one: the frames after them are another grid's."""
    return [start + GRID_FRAMES - 1 for start in window_starts(count, GRID_FRAMES)[:-1]]
