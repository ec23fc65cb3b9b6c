"""Clips longer than a grid: several grids that share kept frames."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import numpy as np

from gridctl.errors import UsageError
from gridctl.flux.plan import Plan
from gridctl.generate.windows import OVERLAP, window_starts
from gridctl.geometry import Grid
from gridctl.media.clip import sample_indices
from gridctl.media.images import Frames

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio

Long = Literal["keyframes", "windows"]


def check_frames(count: int, least: int, what: str) -> None:
    """Raise UsageError for fewer frames than `what` has."""
    if count < least:
        raise UsageError(f"frames is {count}, and {what} has {least}; ask for {least} or more.")


def num_long_grids(count: int, grid: Grid, long: Long) -> int:
    """How many grids `draw_long` draws."""
    if count == grid.num_frames:
        return 1
    if long == "keyframes":
        return 1 + len(window_starts(count, grid.num_frames, 1))
    return len(window_starts(count, grid.num_frames))


def draw_long(
    studio: Studio, grid: Grid, prompt: str, seed: int, *, count: int, long: Long
) -> Frames:
    """A clip of `count` frames (F, H, W, 3), drawn as several grids.

    keyframes: a first grid draws frames spread over the whole clip, and further grids fill in
    the frames between them. windows: each grid keeps the last frames of the one before.
    """
    first = studio.draw(Plan.generate(grid), prompt, seed)
    if long == "windows":
        return continue_clip(studio, grid, prompt, seed, known=first, count=count)
    if count == grid.num_frames:
        return first
    keys = sample_indices(count, grid.num_frames)
    frames = np.zeros((count, *first.shape[1:]), np.uint8)
    frames[list(keys)] = first
    known = set(keys)
    for start in window_starts(count, grid.num_frames, 1):
        window = range(start, start + grid.num_frames)
        kept = {frame - start for frame in window if frame in known}
        frames[start : window.stop] = _fill(studio, grid, prompt, seed, frames[start:], kept)
        known.update(window)
    return frames


def continue_clip(
    studio: Studio, grid: Grid, prompt: str, seed: int, *, known: Frames, count: int
) -> Frames:
    """`known` frames (F, H, W, 3), continued to `count` frames."""
    frames = known
    while len(frames) < count:
        shared = min(OVERLAP, grid.num_frames // 2, len(frames))
        drawn = _fill(studio, grid, prompt, seed, frames[-shared:], range(shared))
        frames = np.concatenate([frames, drawn[shared:]])
    return frames[:count]


def _fill(
    studio: Studio, grid: Grid, prompt: str, seed: int, frames: Frames, kept: Collection[int]
) -> Frames:
    """A grid that keeps some of the first `frames` and draws the rest."""
    if len(kept) == grid.num_frames:
        return frames[: grid.num_frames]
    reference = np.zeros((grid.num_frames, *frames.shape[1:]), np.uint8)
    for frame in kept:
        reference[frame] = frames[frame]
    return studio.draw(Plan.keep(grid, kept), prompt, seed, reference=reference)
