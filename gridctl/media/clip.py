"""Clip: frames of a video, an animation or images, and when each of them is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gridctl.media.fit import Fit
from gridctl.media.images import Picture

Ordinals = npt.NDArray[np.int64]  # numbers of frames, from 0 on
Seconds = npt.NDArray[np.floating]
Tick = Callable[[], None]  # called with each packet or frame, to show that work goes on


def no_tick() -> None:
    """The tick of callers who need none."""


def sample_indices(count: int, wanted: int) -> tuple[int, ...]:
    """`wanted` of `count` frames, evenly spread, first and last included. All if there are fewer.

    A single wanted frame is the first.
    """
    if wanted >= count:
        return tuple(range(count))
    steps = max(1, wanted - 1)
    # Integers, rounding halves up, so that every machine picks the same frames.
    return tuple((2 * i * (count - 1) + steps) // (2 * steps) for i in range(wanted))


class WrongIndexError(Exception):
    """The decoder gives other frames than the packets announced; open with `decode=True`."""


class Clip(Protocol):
    """Frames with times, from any kind of source."""

    times_seconds: Seconds
    """When each frame is shown, counted from the first frame. Strictly increasing."""
    duration_seconds: float
    """From the start of the first frame to the end of the last."""
    fps: float
    """Nominal frame rate."""

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        """Yield these frames as cells (H, W, 3). `frames` must be strictly increasing.

        Raises InputError for a damaged clip, and WrongIndexError for a video whose packets
        announced other frames.
        """
        ...

    def notes(self) -> Sequence[str]:
        """Warnings for the user about the frames that were read."""
        ...


# A gap that is longer than both is not a still picture but a jump of the time stamps.
LONGEST_SECONDS = 60.0
LONGEST_STEPS = 20
# Time stamps that go back by more than both have restarted, and so have those that go back to
# the first one after a few steps. Others are out of order.
_BACK_SECONDS = 0.5
_BACK_STEPS = 10
_FEW_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Strictly increasing times from 0 on, and what was wrong with the time stamps."""

    times_seconds: npt.NDArray[np.float64]
    step_seconds: float
    """The usual time from frame to frame."""
    longest_seconds: float
    """The longest time that a frame may be shown."""
    notes: tuple[str, ...]


def make_timeline(
    stamps_seconds: Sequence[float | None],
    *,
    nominal_step: float,
    longest_seconds: float = LONGEST_SECONDS,
) -> Timeline:
    """The timeline of frames with these time stamps, in the order in which they are shown.

    A frame without a stamp comes `nominal_step` after the one before. Where stamps restart or
    jump, the next frame comes one step after the one before. Stamps that are out of order are
    sorted, and equal ones are spread up to the next.
    """
    stamps = _fill(stamps_seconds, nominal_step)
    gaps = np.diff(stamps)
    step = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else nominal_step
    longest = max(longest_seconds, LONGEST_STEPS * step)
    starts = _segments(stamps, step, longest)
    times: list[float] = []
    repeats = 0
    for start, end in zip(starts, [*starts[1:], len(stamps)], strict=True):
        segment = np.sort(stamps[start:end])
        repeats += int((np.diff(segment) <= 0).sum())
        offset = times[-1] + step - segment[0] if times else -segment[0]
        times.extend(_spread(segment, step) + offset)
    notes = []
    if restarts := sum(bool(stamps[k] < stamps[k - 1]) for k in starts[1:]):
        notes.append(_times("has time stamps that restart", restarts, "the parts were joined"))
    if jumps := len(starts) - 1 - restarts:
        notes.append(_times("has time stamps that jump ahead", jumps, "the gaps were closed"))
    if repeats:
        notes.append(_times("has time stamps that repeat", repeats, "they were spread evenly"))
    return Timeline(
        times_seconds=np.array(times), step_seconds=step, longest_seconds=longest,
        notes=tuple(notes),
    )  # fmt: skip


def limited(seconds: float, longest_seconds: float = LONGEST_SECONDS) -> tuple[float, str | None]:
    """The time for which a frame is shown, at most `longest_seconds`, and a note if that is less.

    A frame that is shown for hours would fill a disk with equal grids.
    """
    if seconds <= longest_seconds:
        return seconds, None
    note = f"shows a frame for {seconds:,.0f} seconds; {longest_seconds:,.0f} of them count"
    return longest_seconds, note


def _fill(stamps: Sequence[float | None], step: float) -> npt.NDArray[np.float64]:
    filled: list[float] = []
    for stamp in stamps:
        before = filled[-1] if filled else -step
        filled.append(before + step if stamp is None else stamp)
    return np.array(filled)


def _segments(stamps: npt.NDArray[np.float64], step: float, longest: float) -> list[int]:
    """Indices at which stamps begin (0), restart or jump."""
    starts = [0]
    back = max(_BACK_SECONDS, _BACK_STEPS * step)
    for place in range(1, len(stamps)):
        gap = stamps[place] - stamps[place - 1]
        first = stamps[starts[-1]]
        to_start = stamps[place] <= first and stamps[place - 1] - first > _FEW_STEPS * step
        if gap > longest or -gap > back or to_start:
            starts.append(place)
    return starts


def _spread(stamps: npt.NDArray[np.float64], step: float) -> npt.NDArray[np.float64]:
    """Sorted stamps with each run of equal ones spread up to the next stamp."""
    distinct, counts = np.unique(stamps, return_counts=True)
    usual = step if len(distinct) > 1 else step * counts[-1]
    room = np.append(np.diff(distinct), usual)
    between = np.minimum(room / counts, step)
    place = np.arange(len(stamps)) - np.repeat(np.cumsum(counts) - counts, counts)
    spread: npt.NDArray[np.float64] = stamps + place * np.repeat(between, counts)
    return spread


def _times(fact: str, count: int, mended: str) -> str:
    return f"{fact}{f' {count:,} times' if count > 1 else ''}; {mended}"
