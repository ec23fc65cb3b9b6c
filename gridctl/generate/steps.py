"""Planning a clip as a list of grids: which frames each one holds, and which of them it draws.

Every task returns such steps, and one loop draws them (`gridctl.generate.pipeline.draw_clip`).
Steps that improve a finished clip can follow those that draw it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gridctl.diffusion.plan import GENERATE, KEEP, Plan
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.media.clip import sample_indices

OVERLAP = 4  # frames that a window shares with the one before
# Noise level below which a key frame changes with the frames between. Kept exactly, each key frame
# would be a jump: drawn frames agree with each other better than with a given one
# (docs/lab/2026-11-26-jump.md).
KEY_STRENGTH = 0.85
LONG = ("keyframes", "windows")  # ways to draw a clip of several grids


@dataclass(frozen=True, kw_only=True)
class GridStep:
    """One grid of a clip: frame `frames[k]` of the clip lies in cell k of the plan's grid.

    The plan says how strongly each may change. Kept frames, and those that the plan starts from,
    are given or were drawn by an earlier step. Frames past the clip's end are cut off. With
    `source_prompt`, the whole prompt of what the clip shows, FlowEdit changes it; otherwise the
    grid is sampled.
    """

    frames: tuple[int, ...]
    plan: Plan
    source_prompt: str | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        """What happens in each cell: keep, generate (from noise), init or edit (from a frame)."""
        change = "init" if self.source_prompt is None else "edit"
        names = {KEEP: "keep", GENERATE: "generate" if self.source_prompt is None else change}
        return tuple(names.get(strength, change) for strength in self.plan.release)

    @property
    def continues_frames(self) -> bool:
        """Whether some frames are drawn from noise beside others that are known."""
        release = self.plan.release
        return GENERATE in release and min(release) < GENERATE and self.source_prompt is None

    def to_json(self) -> dict[str, Any]:
        """What `--dry-run --json` prints of a grid."""
        return {
            "frames": list(self.frames),
            "actions": list(self.actions),
            "release": list(self.plan.release),
        }

    def __str__(self) -> str:
        """The frame number and action of each cell, as the cells lie in the image."""
        grid, texts = self.plan.grid, list(self.actions)
        for cell, strength in enumerate(self.plan.release):
            if texts[cell] in ("init", "edit"):
                texts[cell] += f" {strength:.2f}"
        rows = ([grid.frame_at(row, col) for col in range(grid.cols)] for row in range(grid.rows))
        return "\n".join(
            "  ".join(f"{self.frames[cell]:>3} {texts[cell]:<9}" for cell in row).rstrip()
            for row in rows
        )


Steps = tuple[GridStep, ...]


def one_grid(grid: Grid, given: Collection[int] = ()) -> Steps:
    """A clip of a single grid, which keeps the `given` frames."""
    return _changing([_step(grid, range(grid.num_frames), given)])


def long_clip(way: str, count: int, grid: Grid, given: Collection[int] = ()) -> Steps:
    """A clip of `count` frames, as many as the grid has or more, which keeps the `given` frames.

    `way` is one of `LONG`. Raises UsageError for another one, for fewer frames, and for several
    grids of one cell.
    """
    if way not in LONG:
        raise UsageError(f"long {way!r} is unknown; choose {' or '.join(LONG)}.")
    check_frames(count, grid)
    return (key_frame_grids if way == "keyframes" else windows)(count, grid, given)


def key_frame_grids(count: int, grid: Grid, given: Collection[int] = ()) -> Steps:
    """A first grid of frames spread over the whole clip, then grids of the frames between.

    The key frames change a little with the frames between, and so do the last frames of the grid
    before.
    """
    _check_overlap(count, grid)
    size = grid.num_frames
    keys = key_frames(count, size, given)
    steps = [_step(grid, keys, given)]
    for window, finished in _gaps(count, size, keys, OVERLAP):
        release = tuple(_release(frame, finished, size, keys, given) for frame in window)
        steps.append(GridStep(frames=tuple(window), plan=Plan(grid=grid, release=release)))
    return _changing(steps)


def windows(count: int, grid: Grid, given: Collection[int] = (), *, finished: int = 0) -> Steps:
    """One grid after the other; each keeps the last frames before it, and the `given` ones.

    The first `finished` frames are there already.
    """
    _check_overlap(count, grid)
    size, steps = grid.num_frames, []
    while finished < count:
        start = finished - num_shared(size, finished)
        window = range(start, start + size)
        steps.append(_step(grid, window, {*range(start, finished), *given}))
        finished = window.stop
    return _changing(steps)


def restoration(count: int, grid: Grid, strength: float) -> Steps:
    """Windows that start from the clip's frames; each keeps what the one before has drawn."""
    steps, finished = [], 0
    for start in window_starts(count, grid.num_frames):
        window = range(start, start + grid.num_frames)
        steps.append(_step(grid, window, range(finished), strength))
        finished = window.stop
    return _changing(steps)


def edit(count: int, grid: Grid, strength: float, source_prompt: str) -> Steps:
    """Frames spread over the whole clip, edited first, then those between them.

    So the first grid sees the whole motion. Windows one after the other see parts of it, which
    the prompt makes larger, and jump where one follows another (docs/lab/).
    """
    _check_overlap(count, grid)
    keys = key_frames(count, grid.num_frames)
    steps = [_step(grid, keys, (), strength, source_prompt)]
    for window, finished in _gaps(count, grid.num_frames, keys, 1):
        steps.append(_step(grid, window, {*keys, *range(finished)}, strength, source_prompt))
    return _changing(steps)


def window_starts(count: int, size: int, overlap: int = OVERLAP) -> list[int]:
    """First frames of windows of `size` over `count` frames, which share `overlap` or more.

    The last window ends with the clip. A small grid shares at most half of its frames.
    """
    step = size - min(overlap, size // 2)
    starts = list(range(0, max(1, count - size + 1), step))
    return starts if starts[-1] + size >= count else [*starts, count - size]


def num_shared(size: int, finished: int) -> int:
    """How many of the `finished` frames the next window of `size` keeps."""
    return min(OVERLAP, size // 2, finished)


def key_frames(count: int, wanted: int, given: Collection[int] = ()) -> list[int]:
    """`wanted` of `count` frames, evenly spread, but all the `given` ones among them.

    Each given frame takes the place of the nearest other one.
    """
    keys = set(sample_indices(count, wanted))
    for frame in sorted(set(given) - keys):
        distances = {key: abs(key - frame) for key in keys - set(given)}
        keys.remove(min(distances, key=distances.__getitem__))
        keys.add(frame)
    return sorted(keys)


def check_frames(count: int, grid: Grid) -> None:
    """Raise UsageError for fewer frames than the grid has."""
    least = grid.num_frames
    if count < least:
        raise UsageError(f"frames is {count}, and the grid has {least}; ask for {least} or more.")


def _check_overlap(count: int, grid: Grid) -> None:
    """Raise UsageError if the clip has several grids, and they cannot share a frame."""
    if grid.num_frames == 1 and count > 1:
        raise UsageError("the grid has one cell; a clip of several grids needs two or more.")


def _step(
    grid: Grid,
    frames: Iterable[int],
    kept: Collection[int],
    strength: float = GENERATE,
    source_prompt: str | None = None,
) -> GridStep:
    """A grid of `frames` that keeps some of them and changes the others by `strength`."""
    frames = tuple(frames)
    release = tuple(KEEP if frame in kept else strength for frame in frames)
    plan = Plan(grid=grid, release=release)
    return GridStep(frames=frames, plan=plan, source_prompt=source_prompt)


def _changing(steps: Iterable[GridStep]) -> Steps:
    """The steps without those that keep every frame."""
    return tuple(step for step in steps if any(step.plan.release))


def _gaps(
    count: int, size: int, keys: Collection[int], overlap: int
) -> Iterator[tuple[range, int]]:
    """The windows with frames between key frames, each with the end of what is drawn before it."""
    finished = 0
    for start in window_starts(count, size, overlap):
        window = range(start, start + size)
        if any(frame >= finished and frame not in keys for frame in window):
            yield window, finished
        finished = window.stop


def _release(
    frame: int, finished: int, size: int, keys: Collection[int], given: Collection[int]
) -> float:
    """The noise level below which a grid between key frames may change a frame.

    The frames before `finished` are another grid's. The last few of them change the more, the
    closer they are to the new ones, so that the grids run into each other.
    """
    if frame in given:
        return KEEP
    if frame < finished:
        return KEY_STRENGTH * max(0.0, 1 - (finished - 1 - frame) / num_shared(size, finished))
    return KEY_STRENGTH if frame in keys else GENERATE
