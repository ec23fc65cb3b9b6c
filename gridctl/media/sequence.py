"""A folder of images as a clip, or a single image as a clip of one frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gridctl.media.clip import Ordinals, Seconds, Tick
from gridctl.media.fit import Fit
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture, is_hdr, read_image


class ImageSequence:
    """One image file per frame, of any size and kind, in the order given."""

    def __init__(self, files: Sequence[Path], tick: Tick) -> None:
        self.times_seconds: Seconds = np.arange(len(files)) / IMAGE_SEQUENCE_FPS
        self.duration_seconds = len(files) / IMAGE_SEQUENCE_FPS
        self.fps = IMAGE_SEQUENCE_FPS
        self._files = files
        self._tick = tick
        self._notes: set[str] = set()

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        for number in frames:
            self._tick()
            path = self._files[number]
            if is_hdr(path):
                yield from self._tone_mapped(path, fit)
            else:
                yield fit.image(read_image(path, fit.background))

    def notes(self) -> Sequence[str]:
        return tuple(sorted(self._notes))

    def _tone_mapped(self, path: Path, fit: Fit) -> Iterator[Picture]:
        from gridctl.media.video import Video  # FFmpeg's libraries take a moment to load

        image = Video(path, decode=False, threads=1, tick=self._tick)
        yield from image.cells(np.zeros(1, np.int64), fit)
        self._notes.update(image.notes())
