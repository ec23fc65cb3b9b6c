"""The grid image: compose frames into one picture with its facts, and split it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.files import atomic_file
from gridctl.geometry import Grid, Sheet
from gridctl.media.color import as_srgb
from gridctl.media.facts import Facts, facts_from_text
from gridctl.media.fit import Fit
from gridctl.media.images import Frames, Picture, open_image

GridFormat = Literal["jpg", "png", "webp"]
# Pixels: the longest side that each format allows, and the largest image that Pillow opens.
MAX_SIDES: dict[GridFormat, int] = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}
MAX_PIXELS = 178_956_970
GRID_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

# JPEG, PNG and WebP can all carry EXIF. Its description is ASCII by specification, and JSON with
# escapes is ASCII too, so text in any language survives.
_IMAGE_DESCRIPTION = 0x010E
_MAX_EXIF_BYTES = 65_000  # a JPEG segment holds 65,533, including EXIF's own header


def check_format(name: str) -> GridFormat:
    """`name` as a format of grid images. Raises UsageError for any other."""
    for known in get_args(GridFormat):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"format {name!r} is unknown; choose {', '.join(get_args(GridFormat))}.")


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
    facts: Facts,
    *,
    quality: int = 95,
    force: bool = False,
    durable: bool = True,
) -> None:
    """Write a grid image with its facts. The suffix says JPEG (4:4:4), PNG or lossless WebP.

    Raises InputError if `path` exists and `force` is not given, if it cannot be written, or if
    the facts are too long to embed. Raises UsageError for another suffix or a quality outside
    1 to 100.
    """
    kind = check_format(path.suffix.lower().lstrip(".").replace("jpeg", "jpg"))
    if not 1 <= quality <= 100:
        raise UsageError(f"quality {quality} is out of range; choose 1 to 100.")
    with atomic_file(path, force=force, durable=durable) as temporary:
        picture = _as_image(image)
        exif = _exif(facts, path)
        if kind == "jpg":
            picture.save(temporary, "JPEG", quality=quality, subsampling="4:4:4", exif=exif)
        elif kind == "png":
            picture.save(temporary, "PNG", exif=exif)
        else:
            picture.save(temporary, "WEBP", lossless=True, exact=True, exif=exif)


def _as_image(picture: Picture) -> Image.Image:
    """A picture as a Pillow image. Pillow interleaves planar pictures faster than NumPy."""
    if picture.flags.c_contiguous:
        return Image.fromarray(picture)
    planes = (np.ascontiguousarray(picture[..., channel]) for channel in range(3))
    return Image.merge("RGB", [Image.fromarray(plane) for plane in planes])


def load_grid(path: Path) -> tuple[Picture, Facts | None]:
    """A grid image (H, W, 3) and its facts, if it has any.

    Raises InputError for a missing or broken image, for damaged facts, and for an image that
    was scaled or cropped after packing.
    """
    with open_image(path) as image:
        facts = _facts(image, path)
        if facts and image.size != facts.grid.image_size:
            raise InputError(
                f"{path} is {image.width}x{image.height} pixels, but its facts say "
                f"{facts.grid.image_size[0]}x{facts.grid.image_size[1]}; "
                "it was scaled or cropped after packing, so pack its clip again."
            )
        # gridctl never writes an orientation. A viewer that adds one leaves the cells in place.
        return np.asarray(as_srgb(image, upright=facts is None)), facts


def load_facts(path: Path) -> Facts | None:
    """The facts of a grid image, or None. Does not decode the picture."""
    with open_image(path) as image:
        return _facts(image, path)


def _facts(image: Image.Image, path: Path) -> Facts | None:
    text = image.getexif().get(_IMAGE_DESCRIPTION)
    return facts_from_text(text, path) if isinstance(text, str) else None


def _exif(facts: Facts, path: Path) -> bytes:
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = json.dumps(facts.to_json(), separators=(",", ":"))
    data = exif.tobytes()
    if len(data) > _MAX_EXIF_BYTES:
        raise InputError(
            f"{path} would carry {len(data)} bytes of facts; an image takes {_MAX_EXIF_BYTES}. "
            "Shorten the text beside the source, or use a smaller grid."
        )
    return data
