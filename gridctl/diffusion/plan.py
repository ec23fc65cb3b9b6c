"""A plan: what happens to each cell while a grid is drawn.

Every task makes one. `generate` draws a cell from noise, `keep` leaves a reference frame as it
is, `init` starts from a reference and lets it change by a strength. All three are one number
per frame: the sigma below which the model may change it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gridctl.errors import UsageError
from gridctl.geometry import Grid

GENERATE = 1.0
KEEP = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Frame k follows its reference while sigma is above `release[k]`.

    1 is generate (no reference), 0 is keep, and anything between is init with that strength.
    """

    grid: Grid
    release: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.release) != self.grid.num_frames:
            raise UsageError(
                f"a plan for {len(self.release)} frames does not fit a grid of "
                f"{self.grid.num_frames}; give one action per frame."
            )
        for frame, strength in enumerate(self.release):
            if not 0 <= strength <= 1:
                raise UsageError(f"frame {frame} has strength {strength}; it lies from 0 to 1.")

    @classmethod
    def generate(cls, grid: Grid) -> Plan:
        """Draw every frame from noise: text to video."""
        return cls(grid=grid, release=(GENERATE,) * grid.num_frames)

    @classmethod
    def keep(cls, grid: Grid, frames: Collection[int]) -> Plan:
        """Keep these frames and draw the others."""
        release = (KEEP if frame in frames else GENERATE for frame in range(grid.num_frames))
        return cls(grid=grid, release=tuple(release))

    @classmethod
    def init(cls, grid: Grid, strength: float) -> Plan:
        """Start every frame from its reference."""
        return cls(grid=grid, release=(strength,) * grid.num_frames)

    @property
    def kept(self) -> tuple[int, ...]:
        """The frames that stay as they are."""
        return tuple(k for k, release in enumerate(self.release) if release == KEEP)

    @property
    def needs_reference(self) -> bool:
        return any(strength < GENERATE for strength in self.release)

    def __str__(self) -> str:
        """The frame number and action of each cell, as the cells lie in the image."""
        grid = self.grid
        rows = [
            "  ".join(
                f"{frame:>3} {_word(self.release[frame]):<9}"
                for frame in (grid.frame_at(row, col) for col in range(grid.cols))
            ).rstrip()
            for row in range(grid.rows)
        ]
        return "\n".join([f"{grid}:", *rows])


def _word(release: float) -> str:
    if release == GENERATE:
        return "generate"
    return "keep" if release == KEEP else f"init {release:.2f}"
