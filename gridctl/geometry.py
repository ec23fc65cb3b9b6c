"""Grid: which cell holds frame k, and where that cell lies in pixels and in tokens.

This is the only module that multiplies rows by cols. Everything that works frame by frame
(latents, losses, plans, captions) finds its frames here.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any, Literal, NamedTuple, get_args

from gridctl.errors import InputError, UsageError

Order = Literal["row-major", "serpentine"]
Unit = Literal["pixel", "token"]

# The VAE halves each side three times, and a token is a 2x2 patch of what it gives.
PIXELS_PER: dict[Unit, int] = {"pixel": 1, "token": 16}
CELL_MULTIPLE = PIXELS_PER["token"]


class Box(NamedTuple):
    """A rectangle in the order of Pillow's crop. right and bottom are not part of it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index for an array (H, W, ...): a slice of rows and a slice of columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One image of rows x cols cells of any size, each with one frame.

    `order` says how frames run through the cells: row by row ("row-major"), or turning around
    at the end of each row ("serpentine"). `cell` is (width, height) in pixels.

    Raises UsageError for a sheet without cells or with an unknown order.
    """

    rows: int
    cols: int
    cell: tuple[int, int]
    order: Order = "row-major"

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise UsageError(
                f"a grid of {self.rows}x{self.cols} cells has no frames; rows and cols start at 1."
            )
        if min(self.cell) < 1:
            raise UsageError(f"cell {self.cell[0]}x{self.cell[1]} is empty; use 256x256.")
        if self.order not in get_args(Order):
            raise UsageError(
                f"order {self.order!r} is unknown; choose {' or '.join(get_args(Order))}."
            )

    def __str__(self) -> str:
        width, height = self.cell
        return f"{self.rows}x{self.cols} cells of {width}x{height}, {self.order}"

    @property
    def num_frames(self) -> int:
        return self.rows * self.cols

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of the whole image, in pixels."""
        return self.cols * self.cell[0], self.rows * self.cell[1]

    def position(self, frame: int) -> tuple[int, int]:
        """(row, col) of the cell that holds `frame`. Raises IndexError outside the grid."""
        if not 0 <= frame < self.num_frames:
            raise IndexError(f"frame {frame} of a grid of {self.num_frames} frames")
        row, col = divmod(frame, self.cols)
        if self.order == "serpentine" and row % 2:
            col = self.cols - 1 - col
        return row, col

    def frame_at(self, row: int, col: int) -> int:
        """The frame in the cell at (row, col): the inverse of `position`."""
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise IndexError(f"cell ({row}, {col}) of a grid of {self.rows}x{self.cols}")
        if self.order == "serpentine" and row % 2:
            col = self.cols - 1 - col
        return row * self.cols + col

    def box(self, frame: int) -> Box:
        """The rectangle of `frame` in the image, in pixels."""
        row, col = self.position(frame)
        width, height = self.cell
        return Box(col * width, row * height, (col + 1) * width, (row + 1) * height)

    def boxes(self) -> tuple[Box, ...]:
        """The rectangles of all frames, in frame order."""
        return tuple(self.box(frame) for frame in range(self.num_frames))


@dataclass(frozen=True, kw_only=True)
class Grid(Sheet):
    """A sheet that FLUX.1 can draw: both sides of a cell are multiples of 16 pixels.

    So no token covers pixels of two frames, and frames have rectangles in tokens, too.

    Raises UsageError for any other cell.
    """

    def __post_init__(self) -> None:
        width, height = self.cell
        if width < 1 or height < 1 or width % CELL_MULTIPLE or height % CELL_MULTIPLE:
            near = "x".join(
                str(max(1, round(s / CELL_MULTIPLE)) * CELL_MULTIPLE) for s in self.cell
            )
            raise UsageError(
                f"cell {width}x{height} is not a multiple of {CELL_MULTIPLE} pixels on both sides, "
                f"so a FLUX token would hold two frames; use {near}."
            )
        super().__post_init__()

    def to_json(self) -> dict[str, Any]:
        """The grid as JSON values, the form that grid images, adapters and metadata.jsonl share."""
        return {
            "rows": self.rows,
            "cols": self.cols,
            "cell": list(self.cell),
            "order": self.order,
        }

    @classmethod
    def from_json(cls, data: Any) -> Grid:
        """The grid that `to_json` wrote. Other keys are ignored.

        Raises InputError for a missing key, a wrong type, or a grid that cannot be drawn.
        """
        try:
            width, height = data["cell"]
            return cls(
                rows=index(data["rows"]),
                cols=index(data["cols"]),
                cell=(index(width), index(height)),
                order=data["order"],
            )
        except KeyError as error:
            raise InputError(f"{error.args[0]} is missing.") from error
        except (TypeError, ValueError) as error:
            raise InputError(f"rows, cols or cell is not a whole number ({error}).") from error
        except UsageError as error:
            raise InputError(str(error)) from error

    @property
    def num_tokens(self) -> int:
        width, height = self.size("token")
        return width * height

    def size(self, unit: Unit) -> tuple[int, int]:
        """(width, height) of the whole grid in `unit`."""
        width, height = self.cell_size(unit)
        return self.cols * width, self.rows * height

    def cell_size(self, unit: Unit) -> tuple[int, int]:
        """(width, height) of one cell in `unit`."""
        return self.cell[0] // PIXELS_PER[unit], self.cell[1] // PIXELS_PER[unit]

    def box(self, frame: int, unit: Unit = "pixel") -> Box:
        """The rectangle of `frame` in the grid image, in `unit`."""
        return Box(*(side // PIXELS_PER[unit] for side in super().box(frame)))

    def boxes(self, unit: Unit = "pixel") -> tuple[Box, ...]:
        """The rectangles of all frames, in frame order."""
        return tuple(self.box(frame, unit) for frame in range(self.num_frames))

    def is_row_wrap(self, frame: int) -> bool:
        """Whether `frame` is the last of its row, so that the next frame starts another one."""
        return self.position(frame)[0] != self.position(frame + 1)[0]


def parse_size(text: str) -> tuple[int, int]:
    """`256x192` or `256` → (width, height) in pixels. Raises UsageError for anything else."""
    width, by, height = text.lower().partition("x")
    try:
        return int(width), int(height if by else width)
    except ValueError:
        raise UsageError(
            f"size {text!r} is not WIDTHxHEIGHT in pixels; write 256x256, or 256."
        ) from None
