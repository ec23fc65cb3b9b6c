"""Options: the grid and the settings of `[pack]`, checked against each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gridctl.dataset.grid_image import MAX_PIXELS
from gridctl.errors import UsageError
from gridctl.formats import FORMATS
from gridctl.geometry import Grid
from gridctl.media.fit import Fit, parse_color
from gridctl.profile import PackSection, Profile

# Settings that change no grid: who makes it, and how the dataset is written besides.
_NOT_IN_GRID = {"workers", "engine", "ray_address", "to", "max_shard_megabytes"}


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """The grid and the settings that a grid image is made with.

    Raises UsageError for values that do not fit together.
    """

    grid: Grid
    settings: PackSection

    @classmethod
    def of(cls, profile: Profile) -> PackOptions:
        """The options of a profile."""
        return cls(grid=profile.grid.to_grid(), settings=profile.pack)

    def __post_init__(self) -> None:
        chosen, (width, height) = self.settings, self.grid.image_size
        side = FORMATS[chosen.format].max_side
        if (side and max(width, height) > side) or width * height > MAX_PIXELS:
            raise UsageError(
                f"a grid of {self.grid} is an image of {width}x{height} pixels; "
                f"{chosen.format} takes {side} a side, and gridctl "
                f"{MAX_PIXELS // 1_000_000} megapixels. Use smaller cells, or fewer of them."
            )
        parse_color(chosen.background)
        if self.mode == "uniform" and (chosen.stride > 1 or chosen.overlap > 0):
            raise UsageError(
                f"stride is {chosen.stride} and overlap {chosen.overlap}, but sample uniform "
                "spreads its frames by itself; use --sample windows, or leave both out."
            )
        if chosen.overlap >= self.grid.num_frames:
            raise UsageError(
                f"overlap is {chosen.overlap}; a grid of {self.grid.num_frames} frames can share "
                f"0 to {self.grid.num_frames - 1} with the one before."
            )
        if chosen.end is not None and chosen.end <= chosen.start:
            raise UsageError(
                f"end is {chosen.end} seconds, which is not after the start at {chosen.start}."
            )

    @property
    def mode(self) -> str:
        """uniform, windows, fps or scenes."""
        return self.settings.sample.partition("=")[0]

    @property
    def fps(self) -> float | None:
        """F of `fps=F`; None for the other modes."""
        rate = self.settings.sample.partition("=")[2]
        return float(rate) if rate else None

    def fit(self) -> Fit:
        """The fit of a frame in its cell."""
        background = parse_color(self.settings.background)
        return Fit(cell=self.grid.cell, mode=self.settings.fit, background=background)

    def first_name(self, number: int = 0) -> str:
        """The file name of a clip's first grid (or another `number`), with {} for the clip's."""
        suffix = "" if self.mode == "uniform" else f"_{number + 1:04}"
        return "{}" + f"{suffix}.{self.settings.format}"

    def metadata(self) -> dict[str, Any]:
        """Values that change the pixels of a grid. Another value makes every grid again."""
        leave_out = {*_NOT_IN_GRID, "start", "end"}
        values = self.settings.to_json().items()
        settings = {key: value for key, value in values if key not in leave_out}
        times = {"start_seconds": self.settings.start, "end_seconds": self.settings.end}
        return {"grid": asdict(self.grid), **settings, **times}
