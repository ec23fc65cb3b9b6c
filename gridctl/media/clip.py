"""Clip: what a video, an animation, an image and a folder of images have in common.

Opening a clip finds out when each frame is shown, if possible without decoding. After that,
any of its frames can be read. Memory holds one or two decoded frames and a few bytes for
each frame of the clip, whatever its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
        """What the user should know about the frames that were read."""
        ...
