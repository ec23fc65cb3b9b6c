"""A folder of images as a clip, or a single image as a clip of one frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageOps

from gridctl.media.clip import Ordinals, Seconds, Tick
from gridctl.media.fit import Fit
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture, open_image


class ImageSequence:
    """Images of any size and kind, one a frame, in the order given."""

    def __init__(self, files: Sequence[Path], tick: Tick) -> None:
        self.times_seconds: Seconds = np.arange(len(files)) / IMAGE_SEQUENCE_FPS
        self.fps = IMAGE_SEQUENCE_FPS
        self._files = files
        self._tick = tick

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        for number in frames:
            self._tick()
            yield read_image(self._files[number], fit)

    def notes(self) -> Sequence[str]:
        return ()


def read_image(path: Path, fit: Fit) -> Picture:
    """One image file, upright, as a cell (H, W, 3); InputError if it cannot be read."""
    with open_image(path) as image:
        return fit.image(ImageOps.exif_transpose(image))
