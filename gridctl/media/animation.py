"""Animated GIF, WebP, APNG and AVIF, and TIFF of several pages, as clips.

Pillow reads them rather than FFmpeg, because it composes frames with transparency and disposal
for all of these formats and knows their color profiles. Delays are read as browsers do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gridctl.errors import InputError
from gridctl.media.clip import Ordinals, Seconds, Tick
from gridctl.media.color import as_srgb
from gridctl.media.fit import Fit
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture, open_image, pages
from gridctl.media.timeline import limited
from gridctl.media.truncation import is_cut_off

# Chrome, Safari and Firefox show a frame of a GIF, WebP or APNG with no delay, or with one of
# up to 10 ms, for a tenth of a second.
SHORTEST_SECONDS = 0.011
_NO_DELAY_SECONDS = 0.1


class Animation:
    """An animated image. Its frames build on each other, so they are read from the first on."""

    def __init__(self, path: Path, tick: Tick) -> None:
        if is_cut_off(path):  # Pillow would read it as a shorter animation
            raise InputError(f"{path} is cut off: its end is missing; download or export it again.")
        self._path = path
        self._tick = tick
        durations, notes = [], set()
        with open_image(path) as image:
            self._pages = pages(image)
            for number in self._pages:
                tick()
                image.seek(number)
                shown, note = limited(_duration(image))
                durations.append(shown)
                notes.update([note] if note else [])
        self._notes = tuple(sorted(notes))
        ends = np.cumsum(durations)
        self.times_seconds: Seconds = np.concatenate([[0.0], ends[:-1]])
        self.duration_seconds = float(ends[-1])
        self.fps = len(durations) / self.duration_seconds

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        with open_image(self._path) as image:
            for number in frames:
                self._tick()
                image.seek(self._pages[int(number)])
                yield fit.image(as_srgb(image.copy(), fit.background))

    def notes(self) -> Sequence[str]:
        return self._notes


def _duration(image: Image.Image) -> float:
    """Seconds that the current frame is shown."""
    if image.format == "TIFF":
        return 1 / IMAGE_SEQUENCE_FPS
    image.load()  # WebP knows the duration only now
    seconds = float(image.info.get("duration", 0)) / 1000
    shortest = 1e-3 if image.format == "AVIF" else SHORTEST_SECONDS
    return seconds if seconds >= shortest else _NO_DELAY_SECONDS
