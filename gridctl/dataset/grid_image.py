"""The grid image: compose frames into one picture with its metadata, and split it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from gridctl.dataset.metadata import GridMetadata, metadata_from_text
from gridctl.errors import InputError, UsageError
from gridctl.files import atomic_file
from gridctl.formats import PICTURE_SUFFIXES
from gridctl.geometry import Grid, Sheet
from gridctl.media.fit import Fit
from gridctl.media.images import Frames, Picture, as_srgb, open_image, write_image

_OPTIONS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "subsampling": "4:4:4"},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True, "exact": True},
}
MAX_PIXELS = 178_956_970  # of the largest image that Pillow opens
GRID_SUFFIXES = frozenset(PICTURE_SUFFIXES)

# JPEG, PNG and WebP can all carry EXIF. Its description is ASCII by specification, and JSON with
# escapes is ASCII too, so text in any language survives.
_IMAGE_DESCRIPTION = 0x010E
_MAX_EXIF_BYTES = 65_000  # a JPEG segment holds 65,533, including EXIF's own header


def compose(frames: Frames, grid: Grid) -> Picture:
    """Lay out frames (F, h, w, 3) as one image (H, W, 3).

    Raises UsageError if the number or size of the frames is not the grid's.
    """
    width, height = grid.cell
    if frames.shape != (grid.num_frames, height, width, 3):
        raise UsageError(f"frames of shape {frames.shape} do not fill a grid of {grid}.")
    image_width, image_height = grid.image_size
    image = np.empty((image_height, image_width, 3), dtype=np.uint8)
    for frame, box in zip(frames, grid.boxes(), strict=True):
        image[box.slices] = frame
    return image


def split(image: Picture, grid: Sheet) -> Frames:
    """Cut a grid image (H, W, 3) into its frames (F, h, w, 3), in frame order.

    Raises UsageError for an image that is not the grid's size.
    """
    height, width = image.shape[:2]
    if (width, height) != grid.image_size:
        raise UsageError(
            f"an image of {width}x{height} pixels is not a grid of {grid}; "
            f"that is {grid.image_size[0]}x{grid.image_size[1]}."
        )
    return np.stack([image[box.slices] for box in grid.boxes()])


def scale_cells(image: Picture, grid: Grid, cell: tuple[int, int]) -> Picture:
    """Scale each cell separately to `cell` (width, height), so that neighbors do not mix.

    Raises UsageError if that would enlarge a cell: it adds no detail to train on.
    """
    if cell == grid.cell:
        return image
    if cell[0] > grid.cell[0] or cell[1] > grid.cell[1]:
        raise UsageError(
            f"cells of {grid.cell[0]}x{grid.cell[1]} pixels are not enlarged to "
            f"{cell[0]}x{cell[1]}; pack with --cell {cell[0]}x{cell[1]}, or train smaller cells."
        )
    smaller = Grid(rows=grid.rows, cols=grid.cols, cell=cell, order=grid.order)
    frames = [Fit(cell=cell).image(Image.fromarray(frame)) for frame in split(image, grid)]
    return compose(np.stack(frames), smaller)


def save_grid(
    image: Picture,
    path: Path,
    metadata: GridMetadata,
    *,
    quality: int = 95,
    force: bool = False,
    durable: bool = True,
) -> None:
    """Write a grid image with its metadata. The suffix says JPEG (4:4:4), PNG or lossless WebP.

    Raises InputError if `path` exists and `force` is not given, if it cannot be written, or if
    the metadata is too long to embed. Raises UsageError for another suffix or a quality outside
    1 to 100.
    """
    kind = check_format(path.suffix.lower().lstrip(".").replace("jpeg", "jpg"))
    if not 1 <= quality <= 100:
        raise UsageError(f"quality {quality} is out of range; choose 1 to 100.")
    with atomic_file(path, force=force, durable=durable) as temporary:
        options = _OPTIONS[kind] | ({"quality": quality} if kind == "jpg" else {})
        write_image(_as_image(image), temporary, exif=_exif(metadata, path), **options)


def check_format(name: str) -> str:
    """`name` as a format of grid images. Raises UsageError for any other."""
    if name not in _OPTIONS:
        raise UsageError(f"format {name!r} is unknown; choose {', '.join(_OPTIONS)}.")
    return name


def _as_image(picture: Picture) -> Image.Image:
    """A picture as a Pillow image. Pillow interleaves planar pictures faster than NumPy."""
    if picture.flags.c_contiguous:
        return Image.fromarray(picture)
    planes = (np.ascontiguousarray(picture[..., channel]) for channel in range(3))
    return Image.merge("RGB", [Image.fromarray(plane) for plane in planes])


def _exif(metadata: GridMetadata, path: Path) -> bytes:
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = json.dumps(metadata.to_json(), separators=(",", ":"))
    data = exif.tobytes()
    if len(data) > _MAX_EXIF_BYTES:
        raise InputError(
            f"{path} would carry {len(data)} bytes of metadata; an image takes {_MAX_EXIF_BYTES}. "
            "Shorten the text beside the source, or use a smaller grid."
        )
    return data


def load_grid(path: Path) -> tuple[Picture, GridMetadata | None]:
    """A grid image (H, W, 3) and its metadata, if it has any.

    Raises InputError for a missing or broken image, for damaged metadata, and for an image that
    was scaled or cropped after packing.
    """
    with open_image(path) as image:
        metadata = _metadata_of(image, path)
        if metadata and image.size != metadata.grid.image_size:
            raise InputError(
                f"{path} is {image.width}x{image.height} pixels, but its metadata says "
                f"{metadata.grid.image_size[0]}x{metadata.grid.image_size[1]}; "
                "it was scaled or cropped after packing, so pack its clip again."
            )
        # gridctl never writes an orientation. A viewer that adds one leaves the cells in place.
        return np.asarray(as_srgb(image, upright=metadata is None)), metadata


def load_metadata(path: Path) -> GridMetadata | None:
    """The metadata of a grid image, or None. Does not decode the picture."""
    with open_image(path) as image:
        return _metadata_of(image, path)


def _metadata_of(image: Image.Image, path: Path) -> GridMetadata | None:
    text = image.getexif().get(_IMAGE_DESCRIPTION)
    return metadata_from_text(text, path) if isinstance(text, str) else None


_LEAST_CELL = 16  # pixels
_MOST_CELLS = 32  # along a side
_STANDS_OUT = 1.3  # jump at a seam, relative to the lines beside it
_SURE = 0.5  # least confidence of a usable answer

Values = npt.NDArray[np.float32]


class Cells(NamedTuple):
    """Rows and columns, with a confidence from 0 to 1."""

    rows: int
    cols: int
    confidence: float

    @property
    def is_sure(self) -> bool:
        return self.confidence >= _SURE


def find_cells(image: Picture) -> Cells:
    """The most likely rows and columns of an image (H, W, 3)."""
    gray = image.astype(np.float32).mean(axis=-1)
    cols, cols_sure, cols_seen = _count_cells(gray)
    rows, rows_sure, rows_seen = _count_cells(gray.T)
    if 1 in (rows, cols) and (rows * cols <= 2 or not (rows_seen or cols_seen)):
        # A single row or column is plausible only if clear seams divide it the other way. And one
        # single line may be an edge in the picture.
        return Cells(rows, cols, 0.0 if rows == cols == 1 else 0.3)
    return Cells(rows, cols, round(min(rows_sure, cols_sure), 2))


def _count_cells(gray: Values) -> tuple[int, float, bool]:
    """Number of cells side by side in `gray` (H, W), the confidence, and whether seams show."""
    width = gray.shape[1]
    jumps = np.abs(np.diff(gray, axis=1))
    # Capped, because a seam runs along the whole line and a hard edge within a frame does not.
    jump_at = np.mean(np.minimum(jumps, 32), axis=0)  # at k: from column k to k + 1
    candidates = [
        count
        for count in range(2, min(_MOST_CELLS, width // _LEAST_CELL) + 1)
        if width % count == 0
    ]
    scores = {count: _seam_score(jump_at, width // count) for count in candidates}
    good = [count for count, score in scores.items() if score >= 0.75]
    if good:
        # The seams of three columns are every second seam of six, so the finest division wins.
        best = max(good)
        return best, scores[best], True
    # No line stands out, so this is a single cell unless the image repeats itself.
    repeats = {count: _repeat_score(gray, width // count) for count in candidates}
    most = max(repeats.values(), default=0.0)
    if most > 0.6:
        # It resembles itself shifted by two cells as well. Again the finest division wins.
        best = max(count for count, score in repeats.items() if score > max(0.5, 0.7 * most))
        return best, min(0.7, repeats[best]), False
    return 1, 0.9 - max(scores.values(), default=0.3), False


def _seam_score(jump_at: Values, cell: int) -> float:
    """Share of the borders between cells of `cell` pixels that stand out as lines."""
    borders = np.arange(cell - 1, len(jump_at), cell)
    reach = np.array([-6, -5, -4, -3, -2, 2, 3, 4, 5, 6])
    around = jump_at[np.clip(borders[:, None] + reach, 0, len(jump_at) - 1)]
    usual = around.max(axis=1) + 0.25
    return float((jump_at[borders] > _STANDS_OUT * usual).mean())


def _repeat_score(gray: Values, cell: int) -> float:
    """Match of the image with itself shifted by a cell, relative to half a cell: 0 to 1."""
    moved = float(np.abs(gray[:, cell:] - gray[:, :-cell]).mean())
    half = cell // 2
    between = float(np.abs(gray[:, half:] - gray[:, :-half]).mean())
    return max(0.0, 1 - moved / between) if between > 0.5 else 0.0
