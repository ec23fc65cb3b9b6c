"""A folder of images as a clip, or a single image as a clip of one frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gridctl.media.clip import Ordinals, Seconds, Tick
from gridctl.media.fit import Fit
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture, read_image


class ImageSequence:
    """One image file per frame, of any size and kind, in the order given."""

    def __init__(self, files: Sequence[Path], tick: Tick) -> None:
        self.times_seconds: Seconds = np.arange(len(files)) / IMAGE_SEQUENCE_FPS
        self.duration_seconds = len(files) / IMAGE_SEQUENCE_FPS
        self.fps = IMAGE_SEQUENCE_FPS
        self._files = files
        self._tick = tick

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        for number in frames:
            self._tick()
            yield fit.image(read_image(self._files[number], fit.background))

    def notes(self) -> Sequence[str]:
        return ()
