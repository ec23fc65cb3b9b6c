"""Images: opening them, their natural order, and the arrays that all of media speaks in."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gridctl.errors import InputError

Frames = npt.NDArray[np.uint8]  # (F, H, W, 3), RGB
Picture = npt.NDArray[np.uint8]  # (H, W, 3), RGB

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
IMAGE_SEQUENCE_FPS = 24.0  # a folder of images does not tell its rate


def natural_key(path: Path) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key that puts frame_2 before frame_10, and A.png before a.png on every machine."""
    parts = re.split(r"(\d+)", path.name)
    key = tuple((0, int(p), p) if p.isdecimal() else (1, 0, p.casefold()) for p in parts if p)
    return key, path.name


def image_files(folder: Path) -> list[Path]:
    """The images that lie directly in `folder`, in natural order, without hidden files.

    Raises InputError for a folder that cannot be read.
    """
    try:
        names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); check its rights."
        ) from error
    return sorted((p for p in names if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image; InputError if it is missing or broken, also while it is decoded."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of pictures half as large as those that it refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the name.") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(
            f"{path} has more than {limit} megapixels, which no frame needs; scale it down."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # An OSError without errno is Pillow's word for a broken file, name and all.
        fact = getattr(error, "strerror", None) or "it is broken or no image"
        raise InputError(f"{path} cannot be read ({fact}); replace it or leave it out.") from error


def is_animated(path: Path) -> bool:
    """Whether a GIF, WebP, PNG or AVIF holds an animation; read from its first bytes.

    A file that cannot be read is not: whoever reads it will say why.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64_000)
    except OSError:
        return False
    if head[:3] == b"GIF":
        return True
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20] & 0x02) if len(head) > 20 else False
    if head[4:12] == b"ftypavis":
        return True
    if head[:8] == b"\x89PNG\r\n\x1a\n":  # APNG's acTL stands before the first IDAT
        return 0 <= head.find(b"acTL") < (head.find(b"IDAT") % 64_001)
    return False
