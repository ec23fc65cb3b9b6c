"""`[grid]`."""

from __future__ import annotations

from pydantic import Field

from gridctl.geometry import Grid, Order
from gridctl.profile.schema.section import Section
from gridctl.profile.values import Cell, Count


class GridSection(Section):
    """The grid: how many cells, how large, in which order."""

    rows: Count = Field(default=4, description="Number of cells from top to bottom.")
    cols: Count = Field(default=6, description="Number of cells from left to right.")
    cell: Cell = Field(
        default=(256, 256),
        description="Size of one cell in pixels, WIDTHxHEIGHT; both multiples of 16.",
    )
    order: Order = Field(
        default="row-major",
        description="Path of the frames through the cells: row-major reads like a page, "
        "serpentine turns around at the end of each row, so that each frame is next to the last.",
    )

    def to_grid(self) -> Grid:
        """The same as a `Grid`."""
        return Grid(rows=self.rows, cols=self.cols, cell=self.cell, order=self.order)
