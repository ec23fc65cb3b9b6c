"""Grid: which cell holds frame k, and where that cell lies in pixels, latents and tokens.

Frames, latents, tokens, losses and plans are all addressed through this module;
nothing else in gridctl multiplies rows by cols.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any, Literal, NamedTuple, get_args

from gridctl.errors import InputError, UsageError

Order = Literal["row-major", "serpentine"]
Unit = Literal["pixel", "latent", "token"]

# FLUX.1: the VAE halves each side three times, and a token is a 2x2 patch of latents.
PIXELS_PER: dict[Unit, int] = {"pixel": 1, "latent": 8, "token": 16}
CELL_MULTIPLE = PIXELS_PER["token"]


class Box(NamedTuple):
    """A rectangle, left and top included, right and bottom not; Pillow's crop order."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns) to index an array whose plane is (H, W)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """rows x cols cells of one image, frame by frame in `order`.

    `cell` is (width, height) in pixels. Both sides are multiples of 16, so that every
    cell border is a token border and no token holds pixels of two frames.

    Raises UsageError for a grid that FLUX.1 cannot draw.
    """

    rows: int
    cols: int
    cell: tuple[int, int]
    order: Order = "row-major"

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise UsageError(
                f"a grid of {self.rows}x{self.cols} cells has no frame; rows and cols start at 1."
            )
        width, height = self.cell
        if width < 1 or height < 1 or width % CELL_MULTIPLE or height % CELL_MULTIPLE:
            near = "x".join(
                str(max(1, round(s / CELL_MULTIPLE)) * CELL_MULTIPLE) for s in self.cell
            )
            raise UsageError(
                f"cell {width}x{height} is not a multiple of {CELL_MULTIPLE} pixels on both sides, "
                f"so a FLUX token would hold two frames; use {near}."
            )
        if self.order not in get_args(Order):
            raise UsageError(
                f"order {self.order!r} is unknown; choose {' or '.join(get_args(Order))}."
            )

    def __str__(self) -> str:
        width, height = self.cell
        return f"{self.rows}x{self.cols} cells of {width}x{height}, {self.order}"

    def to_json(self) -> dict[str, Any]:
        """The grid as JSON values, the form that facts, adapters and metadata.jsonl share."""
        return {
            "rows": self.rows,
            "cols": self.cols,
            "cell": list(self.cell),
            "order": self.order,
        }

    @classmethod
    def from_json(cls, data: Any) -> Grid:
        """The grid that `to_json` wrote; other keys are ignored.

        Raises InputError for a missing key, a wrong type, or a grid that cannot be.
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
    def num_frames(self) -> int:
        return self.rows * self.cols

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of the whole grid image, in pixels."""
        return self.size("pixel")

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

    def position(self, frame: int) -> tuple[int, int]:
        """(row, col) of the cell that holds `frame`; IndexError outside the grid."""
        if not 0 <= frame < self.num_frames:
            raise IndexError(f"frame {frame} of a grid of {self.num_frames} frames")
        row, col = divmod(frame, self.cols)
        if self.order == "serpentine" and row % 2:
            col = self.cols - 1 - col
        return row, col

    def frame_at(self, row: int, col: int) -> int:
        """The frame in the cell at (row, col); the inverse of `position`."""
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise IndexError(f"cell ({row}, {col}) of a grid of {self.rows}x{self.cols}")
        if self.order == "serpentine" and row % 2:
            col = self.cols - 1 - col
        return row * self.cols + col

    def box(self, frame: int, unit: Unit = "pixel") -> Box:
        """Where `frame` lies in the grid image, in `unit`."""
        row, col = self.position(frame)
        width, height = self.cell_size(unit)
        return Box(col * width, row * height, (col + 1) * width, (row + 1) * height)

    def boxes(self, unit: Unit = "pixel") -> tuple[Box, ...]:
        """`box` of every frame, in frame order."""
        return tuple(self.box(frame, unit) for frame in range(self.num_frames))

    def token_indices(self, frame: int) -> tuple[int, ...]:
        """Indices of `frame`'s tokens in FLUX's sequence, which runs along whole image rows."""
        width, _ = self.size("token")
        left, top, right, bottom = self.box(frame, "token")
        return tuple(y * width + x for y in range(top, bottom) for x in range(left, right))

    def is_row_wrap(self, frame: int) -> bool:
        """Whether the step from `frame` to the next one leaves its row."""
        return self.position(frame)[0] != self.position(frame + 1)[0]


def parse_size(text: str) -> tuple[int, int]:
    """`256x192` or `256` → (width, height) in pixels; UsageError for anything else."""
    width, by, height = text.lower().partition("x")
    try:
        return int(width), int(height if by else width)
    except ValueError:
        raise UsageError(f"size {text!r} is not WxH in pixels; write 256x256, or 256.") from None
