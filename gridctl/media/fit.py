"""Fit: how a frame of any shape fills its cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageColor, ImageOps

from gridctl.errors import UsageError
from gridctl.media.images import Picture, Rgb

FitMode = Literal["crop", "pad", "stretch"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How frames are scaled to `cell` (width, height).

    Mode "crop" fills the cell and cuts off the sides, "pad" shows the whole frame between
    bars, "stretch" distorts it. `background` is the (red, green, blue) of the bars and of
    transparent pixels.

    Raises UsageError for an unknown mode.
    """

    cell: tuple[int, int]
    mode: FitMode = "crop"
    background: Rgb = (0, 0, 0)
    on_crop: Callable[[float], None] | None = field(default=None, compare=False, repr=False)
    """Called with the share of a frame's area that is cut off, for each size of frame."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(FitMode):
            raise UsageError(
                f"fit {self.mode!r} is unknown; choose {', '.join(get_args(FitMode))}."
            )

    def turned(self) -> Fit:
        """A copy for frames that are rotated by 90 degrees after scaling."""
        return replace(self, cell=self.cell[::-1])

    def visible(self, size: tuple[int, int], pixel_aspect: float = 1.0) -> tuple[int, int]:
        """(width, height) of the part of a frame of `size` that the cell shows, in its middle."""
        width, height = size
        if self.mode != "crop":
            return size
        aspect = self.cell[0] / self.cell[1] / pixel_aspect  # the cell's, in the frame's pixels
        if width > height * aspect:
            shown = max(1, round(height * aspect)), height
        else:
            shown = width, max(1, round(width / aspect))
        if self.on_crop:
            self.on_crop(1 - shown[0] * shown[1] / (width * height))
        return shown

    def inner(self, size: tuple[int, int], pixel_aspect: float = 1.0) -> tuple[int, int]:
        """(width, height) that this part is scaled to: the cell, or less with bars around it."""
        if self.mode != "pad":
            return self.cell
        width, height = self.cell
        aspect = size[0] * pixel_aspect / size[1]
        if width > height * aspect:
            return max(1, round(height * aspect)), height
        return width, max(1, round(width / aspect))

    def place(self, picture: Picture) -> Picture:
        """`picture` (h, w, 3) in the middle of a cell (H, W, 3), with background around it."""
        width, height = self.cell
        if picture.shape[:2] == (height, width):
            return picture
        cell = np.empty((height, width, 3), np.uint8)
        cell[:] = self.background
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return cell

    def image(self, image: Image.Image) -> Picture:
        """An RGB image as a cell (H, W, 3)."""
        inner = self.inner(image.size)
        shrinks = image.width >= inner[0] and image.height >= inner[1]
        # When shrinking, Hamming looks as good as Lanczos in less than half the time.
        method = Image.Resampling.HAMMING if shrinks else Image.Resampling.LANCZOS
        if self.mode == "crop":
            self.visible(image.size)  # reports what is cut off
            return np.asarray(ImageOps.fit(image, inner, method=method))
        return self.place(np.asarray(image.resize(inner, method)))


def parse_color(text: str) -> Rgb:
    """`white` or `#ffcc00` → (red, green, blue). Raises UsageError for anything else."""
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError:
        raise UsageError(f"color {text!r} is unknown; write white, or #ffcc00.") from None
