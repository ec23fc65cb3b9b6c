"""What a grid image is made from besides its clip: everything that changes its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.media.fit import Fit, FitMode, parse_colour
from gridctl.media.grid_image import MAX_PIXELS, MAX_SIDES, GridFormat, check_format

Tail = Literal["drop", "pad", "error"]
Mode = Literal["uniform", "windows", "fps", "scenes"]


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """How clips become grids.

    `sample` is `uniform` (a grid a clip, its frames spread over all of it), `windows` (as
    many grids as the clip fills), `fps=F` (windows over F frames a second) or `scenes`
    (windows that cross no cut). Windows take every `stride`-th frame, and each begins with
    the last `overlap` frames of the one before.

    Raises UsageError for a value that cannot be.
    """

    grid: Grid
    sample: str = "uniform"
    stride: int = 1
    overlap: int = 0
    start_seconds: float = 0.0
    end_seconds: float | None = None
    max_grids: int | None = None
    fit: FitMode = "crop"
    background: str = "black"
    tail: Tail = "drop"
    format: GridFormat = "jpg"
    quality: int = 95

    def __post_init__(self) -> None:
        check_format(self.format)
        width, height = self.grid.image_size
        if max(width, height) > MAX_SIDES[self.format] or width * height > MAX_PIXELS:
            raise UsageError(
                f"a grid of {self.grid} is an image of {width}x{height} pixels; "
                f"{self.format} takes {MAX_SIDES[self.format]} a side, and gridctl "
                f"{MAX_PIXELS // 1_000_000} megapixels. Use smaller cells, or fewer of them."
            )
        self.frame_fit()
        if self.mode not in get_args(Mode) or (self.mode == "fps") != (self.fps is not None):
            raise UsageError(
                f"sample {self.sample!r} is unknown; choose uniform, windows, scenes, or fps=F "
                "with F above 0."
            )
        if self.tail not in get_args(Tail):
            raise UsageError(f"tail {self.tail!r} is unknown; choose drop, pad or error.")
        if self.stride < 1:
            raise UsageError(f"stride is {self.stride}; it takes every 1st, 2nd ... frame.")
        if self.mode == "uniform" and (self.stride > 1 or self.overlap > 0):
            raise UsageError(
                f"stride is {self.stride} and overlap {self.overlap}, but sample uniform spreads "
                "its frames by itself; use --sample windows, or leave both out."
            )
        if not 0 <= self.overlap < self.grid.num_frames:
            raise UsageError(
                f"overlap is {self.overlap}; a grid of {self.grid.num_frames} frames can share "
                f"0 to {self.grid.num_frames - 1} with the one before."
            )
        if not self.start_seconds >= 0:
            raise UsageError(f"start is {self.start_seconds} seconds; a clip begins at 0.")
        if self.end_seconds is not None and not self.end_seconds > self.start_seconds:
            raise UsageError(
                f"end is {self.end_seconds} seconds, which is not after the start at "
                f"{self.start_seconds}."
            )
        if self.max_grids is not None and self.max_grids < 1:
            raise UsageError(f"max_grids is {self.max_grids}; it is 1 or more.")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality {self.quality} is out of range; choose 1 to 100.")

    @property
    def mode(self) -> str:
        return self.sample.partition("=")[0]

    @property
    def fps(self) -> float | None:
        """F of `fps=F`; None for the other modes, or where F is no rate."""
        try:
            rate = float(self.sample.partition("=")[2])
        except ValueError:
            return None
        return rate if math.isfinite(rate) and 0.001 <= rate <= 1000 else None

    def frame_fit(self) -> Fit:
        """How a frame meets its cell."""
        return Fit(cell=self.grid.cell, mode=self.fit, background=parse_colour(self.background))
