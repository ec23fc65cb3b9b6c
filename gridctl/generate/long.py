"""Clips longer than a grid: several grids that share kept frames."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from gridctl.diffusion.plan import GENERATE, KEEP, Plan
from gridctl.errors import UsageError
from gridctl.generate.windows import OVERLAP, window_starts
from gridctl.geometry import Grid
from gridctl.media.clip import sample_indices
from gridctl.media.images import Frames, Picture

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio

Long = Literal["keyframes", "windows"]
# Noise level below which a key frame changes with the frames between. Kept exactly, each key frame
# would be a jump: drawn frames agree with each other better than with a given one
# (docs/lab/2026-11-26-jump.md).
KEY_STRENGTH = 0.85


def check_long(long: str) -> Long:
    """`long` as one of the ways there are. Raises UsageError for any other."""
    for known in get_args(Long):
        if long == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"long {long!r} is unknown; choose keyframes or windows.")


def check_frames(count: int, least: int, what: str) -> None:
    """Raise UsageError for fewer frames than `what` has."""
    if count < least:
        raise UsageError(f"frames is {count}, and {what} has {least}; ask for {least} or more.")


def check_overlap(grid: Grid) -> None:
    """Raise UsageError for a grid that cannot keep a frame and draw another."""
    if grid.num_frames == 1:
        raise UsageError("the grid has one cell; a clip of several grids needs two or more.")


def num_long_grids(count: int, grid: Grid, long: Long, given: Collection[int] = ()) -> int:
    """How many grids `draw_long` draws. Raises UsageError for several grids of one cell."""
    if count == grid.num_frames:
        return 1
    check_overlap(grid)
    if long == "keyframes":
        keys = key_frames(count, grid.num_frames, given)
        return 1 + len(list(_gaps(count, grid.num_frames, keys)))
    return len(window_starts(count, grid.num_frames))


def draw_long(
    studio: Studio,
    grid: Grid,
    prompt: str,
    seed: int,
    *,
    count: int,
    long: Long,
    given: Mapping[int, Picture] | None = None,
) -> Frames:
    """A clip of `count` frames (F, H, W, 3), drawn as several grids; `given` frames are kept.

    keyframes: a first grid draws frames spread over the whole clip, and further grids draw the
    frames between them, with which the key frames change a little. windows: each grid keeps
    the last frames of the one before.
    """
    given = given or {}
    width, height = grid.cell
    frames = np.zeros((count, height, width, 3), np.uint8)
    for frame, picture in given.items():
        frames[frame] = picture
    keys = list(range(grid.num_frames))
    if long == "keyframes":
        keys = key_frames(count, grid.num_frames, given)
    kept = [index for index, frame in enumerate(keys) if frame in given]
    frames[keys] = _fill(studio, grid, prompt, seed, frames[keys], kept)
    if long == "windows":
        first = frames[: grid.num_frames]
        return continue_clip(studio, grid, prompt, seed, known=first, count=count, given=given)
    for window, finished in _gaps(count, grid.num_frames, keys):
        release = [_release(frame, window, finished, keys, given) for frame in window]
        plan, part = Plan(grid=grid, release=tuple(release)), slice(window.start, window.stop)
        frames[part] = studio.draw(plan, prompt, seed, reference=frames[part])
    return frames


def _gaps(count: int, size: int, keys: Collection[int]) -> Iterator[tuple[range, int]]:
    """The windows with frames between key frames, each with the end of what is drawn before it."""
    finished = 0
    for start in window_starts(count, size):
        window = range(start, start + size)
        if any(frame >= finished and frame not in keys for frame in window):
            yield window, finished
        finished = window.stop


def _release(
    frame: int, window: range, finished: int, keys: Collection[int], given: Collection[int]
) -> float:
    """The noise level below which a grid over `window` may change a frame of the clip.

    The frames before `finished` are another grid's. The last few of them change the more, the
    closer they are to the new ones, so that the grids run into each other.
    """
    if frame in given:
        return KEEP
    if frame < finished:
        shared = min(OVERLAP, len(window) // 2)
        return KEY_STRENGTH * max(0.0, 1 - (finished - 1 - frame) / shared)
    return KEY_STRENGTH if frame in keys else GENERATE


def key_frames(count: int, wanted: int, given: Collection[int]) -> list[int]:
    """`wanted` of `count` frames, evenly spread, but all the `given` ones among them.

    Each given frame takes the place of the nearest other one.
    """
    keys = set(sample_indices(count, wanted))
    for frame in sorted(set(given) - keys):
        keys.remove(min(keys - set(given), key=partial(_distance, frame)))
        keys.add(frame)
    return sorted(keys)


def _distance(one: int, other: int) -> int:
    return abs(one - other)


def continue_clip(
    studio: Studio,
    grid: Grid,
    prompt: str,
    seed: int,
    *,
    known: Frames,
    count: int,
    given: Mapping[int, Picture] | None = None,
) -> Frames:
    """`known` frames (F, H, W, 3), continued to `count` frames; `given` frames are kept."""
    frames = known
    while len(frames) < count:
        shared = min(OVERLAP, grid.num_frames // 2, len(frames))
        start = len(frames) - shared
        ahead = {frame - start: picture for frame, picture in (given or {}).items()}
        ahead = {cell: ahead[cell] for cell in ahead if shared <= cell < grid.num_frames}
        window = np.zeros((grid.num_frames, *frames.shape[1:]), np.uint8)
        window[:shared] = frames[-shared:]
        for cell, picture in ahead.items():
            window[cell] = picture
        drawn = _fill(studio, grid, prompt, seed, window, {*range(shared), *ahead})
        frames = np.concatenate([frames, drawn[shared:]])
    return frames[:count]


def _fill(
    studio: Studio, grid: Grid, prompt: str, seed: int, frames: Frames, kept: Collection[int]
) -> Frames:
    """A grid that keeps some of the first `frames` and draws the rest."""
    if len(kept) == grid.num_frames:
        return frames[: grid.num_frames]
    if not kept:
        return studio.draw(Plan.generate(grid), prompt, seed)
    reference = np.zeros((grid.num_frames, *frames.shape[1:]), np.uint8)
    for frame in kept:
        reference[frame] = frames[frame]
    return studio.draw(Plan.keep(grid, kept), prompt, seed, reference=reference)
