"""Self-checks: faults that a clip shows by itself, found without a model.

The limits are those that true clips and good clips of the built-in model stay below
(docs/lab/2026-11-26-self-checks.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gridctl.diffusion.plan import GENERATE, KEEP, Plan
from gridctl.geometry import Grid
from gridctl.media.images import Frames

Pixels = npt.NDArray[np.float32]

_SIDE = 64  # pixels that a frame is shrunk to: grain and compression do not count
_STILL = 0.5  # 8-bit levels: two frames that differ less show no motion
_MARKED = 24.0  # 8-bit levels: a border point that differs more from its usual colour is marked
_GAIN = 1.5  # by which a restored frame may be brighter or darker than the given one
_BLOCKS = 8  # a frame's blocks a side, of which brightness is compared

LIMITS = {
    "flat": 0.8,  # contrast that the flattest frame lacks, as a share of the usual
    "repeat": 0.85,  # motion that the most alike two frames lack, as a share of that around them
    "flicker": 0.05,  # contrast's change from frame to frame, as a share of it
    "brightness": 3.0,  # 8-bit levels of brightness that come and go from frame to frame
    "seam": 0.08,  # share of a border between cells that something crosses
    "row": 3.0,  # step from a row's end to the next row, beside steps within rows
    "given": 4.0,  # step between a given and a drawn frame, beside steps between drawn ones
    "content": 8.0,  # 8-bit levels by which blocks of a restored clip differ from the given one
}
_WORDS = {
    "flat": "frame {frame} shows next to nothing",
    "repeat": "frame {next} repeats frame {frame} while the clip moves",
    "flicker": "contrast flickers by {value:.0%}",
    "brightness": "brightness flickers by {value:.0f} levels",
    "seam": "something crosses the border of the cells of frames {frame} and {other}",
    "row": "frame {next} begins a row of the grid with a jump, {value:.1f} times the usual step",
    "given": "the step between frames {frame} and {next}, given and drawn, is {value:.1f} times "
    "the usual one",
    "content": "the content has changed by {value:.0f} levels",
}
_ANOTHER = "draw another seed, or use --best-of 4"
_REMEDIES = {
    "flicker": f"use gridctl generate restore on it, or {_ANOTHER}",
    "brightness": f"use gridctl generate restore on it, or {_ANOTHER}",
    "given": f"use an adapter that was trained with train.keep, or {_ANOTHER}",
    "content": "lower --strength, or say with --prompt what the clip shows",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure of a clip. It fails above its limit, `LIMITS[name]`.

    `frame` says where it is worst, counted from 0; None for the whole clip. `other` is the frame
    across a border.
    """

    name: str
    value: float
    frame: int | None = None
    other: int | None = None

    @property
    def fails(self) -> bool:
        return self.value > LIMITS[self.name]

    @property
    def load(self) -> float:
        """The value as a share of its limit."""
        return self.value / LIMITS[self.name]

    def __str__(self) -> str:
        """What is wrong where, and the remedy."""
        following = None if self.frame is None else self.frame + 1
        fact = _WORDS[self.name].format(
            value=self.value, frame=self.frame, next=following, other=self.other
        )
        return f"{fact}; {_REMEDIES.get(self.name, _ANOTHER)}."

    def to_json(self) -> dict[str, Any]:
        frames = [frame for frame in (self.frame, self.other) if frame is not None]
        return {
            "value": round(self.value, 4),
            "limit": LIMITS[self.name],
            "frames": frames,
            "fails": self.fails,
        }


@dataclass(frozen=True, kw_only=True)
class Checks:
    """All figures of a clip, each once."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.fails)

    @property
    def badness(self) -> tuple[int, float]:
        """Sorts better clips first: fewer faults, then figures farther below their limits."""
        return len(self.failed), sum(check.load for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {check.name: check.to_json() for check in self.checks}


@dataclass(frozen=True, kw_only=True)
class DrawnGrid:
    """A grid as it was drawn: its frames (F, H, W, 3), and the given ones of its plan."""

    plan: Plan
    frames: Frames
    reference: Frames | None = None


def check_clip(frames: Frames, grids: Sequence[DrawnGrid] = ()) -> Checks:
    """The checks of a clip (F, H, W, 3), and of the grids that it was drawn as.

    Figures of several grids are those of the worst one, and their frames are the grid's own.
    """
    small = _shrink(frames)
    checks = [*_of_frames(small)]
    worst: dict[str, Check] = {}
    for grid in grids:
        for check in _of_grid(grid):
            known = worst.get(check.name)
            if known is None or check.value > known.value:
                worst[check.name] = check
    return Checks(checks=(*checks, *worst.values()))


def _of_frames(frames: Pixels) -> Iterator[Check]:
    contrast = frames.std((1, 2)).mean(-1)
    usual = float(np.median(contrast))
    flattest = int(contrast.argmin())
    lost = 1 - float(contrast[flattest]) / usual if usual > 2 else 1.0
    yield Check(name="flat", value=lost, frame=flattest)
    if len(frames) < 4:
        return
    yield _repeat(frames)
    yield Check(name="flicker", value=float(_tremble(contrast)) / max(usual, 1.0))
    means = frames.mean((1, 2))
    yield Check(name="brightness", value=float(_tremble(means).max()))


def _of_grid(drawn: DrawnGrid) -> Iterator[Check]:
    frames, plan = _shrink(drawn.frames), drawn.plan
    if len(frames) < 2:
        return
    yield _seam(frames, plan.grid)
    steps = _steps(frames)
    rows = [plan.grid.position(frame)[0] for frame in range(len(frames))]
    wraps = [frame for frame, (row, following) in enumerate(pairwise(rows)) if row != following]
    yield from _jump("row", steps, wraps)
    kept = [release == KEEP for release in plan.release]
    given = [frame for frame, (here, there) in enumerate(pairwise(kept)) if here != there]
    drawn_only = [frame for frame, pair in enumerate(pairwise(kept)) if not any(pair)]
    yield from _jump("given", steps, given, drawn_only)
    changed = [0 < release < GENERATE for release in plan.release]
    # Key frames of a long clip are meant to change with the frames between them.
    if drawn.reference is not None and any(changed) and GENERATE not in plan.release:
        yield _content(frames[changed], _shrink(drawn.reference)[changed])


def _shrink(frames: Frames) -> Pixels:
    """(F, H, W, 3) as the means of blocks, with sides of 64 to 127 pixels if they were larger."""
    by = max(1, min(frames.shape[1:3]) // _SIDE)
    height, width = (side // by * by for side in frames.shape[1:3])
    return _block_means(frames[:, :height, :width].astype(np.float32), height // by, width // by)


def _block_means(frames: Pixels, rows: int, cols: int) -> Pixels:
    """(F, H, W, 3) → the means of rows x cols blocks, (F, rows, cols, 3)."""
    count, height, width, _ = frames.shape
    frames = frames[:, : height // rows * rows, : width // cols * cols]
    blocks = frames.reshape(count, rows, height // rows, cols, width // cols, 3)
    means: Pixels = blocks.mean((2, 4))
    return means


def _steps(frames: Pixels) -> npt.NDArray[np.floating[Any]]:
    """How much each frame differs from the next: mean absolute difference, 8-bit levels."""
    steps: npt.NDArray[np.floating[Any]] = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    return steps


def _tremble(values: Pixels) -> Any:
    """How much (F, ...) goes up and down from frame to frame, (...): steady changes do not count.

    The root mean square of second differences, scaled to the standard deviation of white noise.
    """
    return np.sqrt((np.diff(values, 2, axis=0) ** 2).mean(0) / 6)


def _repeat(frames: Pixels) -> Check:
    """The two most alike neighbours, where the frames around them move on.

    Where motion turns round, as in a bounce, two neighbours may be equal.
    """
    steps = _steps(frames)
    worst = Check(name="repeat", value=0.0)
    for frame in range(1, len(steps) - 1):
        around = float(steps[frame - 1] + steps[frame + 1]) / 2
        across = float(np.abs(frames[frame + 2] - frames[frame - 1]).mean())
        if around > _STILL and across > around:
            value = 1 - float(steps[frame]) / around
            if value > worst.value:
                worst = Check(name="repeat", value=value, frame=frame)
    return worst


def _jump(
    name: str,
    steps: npt.NDArray[np.floating[Any]],
    at: Sequence[int],
    others: Sequence[int] | None = None,
) -> Iterator[Check]:
    """The mean step at some frames beside the mean of `others`, by default all the rest."""
    others = [k for k in range(len(steps)) if k not in at] if others is None else others
    if at and others:
        usual = max(float(steps[list(others)].mean()), _STILL)
        worst = max(at, key=lambda frame: float(steps[frame]))
        yield Check(name=name, value=float(steps[list(at)].mean()) / usual, frame=worst)


def _seam(frames: Pixels, grid: Grid) -> Check:
    """What lies on both sides of a border between cells and is usual on neither.

    Frames full of motion have such places by chance, as often between cells that do not touch.
    That is subtracted, so that the check says nothing about such clips.
    """
    places = {grid.position(frame): frame for frame in range(grid.num_frames)}
    sides = (  # rows down and columns right to the cell across a border, and its two sides
        ((0, 1), _strips(frames[:, :, -2:], 2), _strips(frames[:, :, :2], 2)),
        ((1, 0), _strips(frames[:, -2:], 1), _strips(frames[:, :2], 1)),
    )
    worst = Check(name="seam", value=0.0)
    for (down, right), ends, starts in sides:
        shares = np.stack([_shared(one, starts) for one in ends])
        touching = np.zeros(shares.shape, bool)
        for (row, col), frame in places.items():
            if (row + down, col + right) in places:
                touching[frame, places[row + down, col + right]] = True
        if not touching.any():
            continue
        by_chance = float(shares[~touching].mean())
        one, other = np.unravel_index(np.where(touching, shares, -1).argmax(), shares.shape)
        value = max(0.0, float(shares[one, other]) - 8 * by_chance)
        if value > worst.value:
            worst = Check(name="seam", value=value, frame=int(one), other=int(other))
    return worst


def _strips(border: Pixels, across: int) -> Pixels:
    """What is unusual on a border of each frame, (F, N, 3): the mean over its axis `across`.

    What changed along all of a strip, brightness, does not count.
    """
    strips = (border - np.median(border, axis=0)).mean(across)
    even: Pixels = (strips - np.median(strips, axis=1, keepdims=True)).astype(np.float32)
    return even


def _shared(one: Pixels, others: Pixels) -> Any:
    """The share of points at which a strip (N, 3) and each of (F, N, 3) are marked alike, (F,)."""
    marked = np.minimum(np.abs(one).max(-1), np.abs(others).max(-1))
    alike = np.abs(one - others).max(-1) < marked / 2
    return (alike & (marked > _MARKED)).mean(-1)


def _content(drawn: Pixels, given: Pixels) -> Check:
    """How much blocks differ in the frame where they do most; noise does not count.

    A frame may also get brighter or darker, within a limit, since restoring removes flicker.
    """
    drawn, given = (_block_means(frames, _BLOCKS, _BLOCKS) for frames in (drawn, given))
    squares = np.maximum((given**2).sum((1, 2, 3), keepdims=True), 1.0)
    gains = (drawn * given).sum((1, 2, 3), keepdims=True) / squares
    given = given * gains.clip(1 / _GAIN, _GAIN)
    by_frame = np.abs(drawn - given).mean((1, 2, 3))
    return Check(name="content", value=float(by_frame.max()), frame=int(by_frame.argmax()))
