"""Image files: listing them in natural order, and reading any of them as 8-bit sRGB."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from gridctl.errors import InputError
from gridctl.files import open_regular
from gridctl.media.kinds import is_hidden, kind_of

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

Rgb = tuple[int, int, int]
Frames = npt.NDArray[np.uint8]  # (F, H, W, 3), RGB
Picture = npt.NDArray[np.uint8]  # (H, W, 3), RGB

IMAGE_SEQUENCE_FPS = 24.0  # a folder of images has no frame rate

_ORIENTATION = 0x0112  # EXIF
_UNCHANGED = 2  # of 255: a color profile that changes no color by more is sRGB
_FLOAT_SLACK = 1e-3
_SRGB_GAMMA, _GAMMA_SLACK = 1 / 2.2, 0.03  # of PNGs whose gamma is about sRGB's
# Pillow's own limit of 1 MB refuses pictures whose text holds the workflow that made them.
_MAX_TEXT_BYTES = 64_000_000
_HDR_TRANSFERS = (16, 18)  # PQ and HLG
_NEW_SUBFILE_TYPE = 254  # TIFF tag; its lowest bit marks a thumbnail


def natural_key(path: Path) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key that puts frame_2 before frame_10, and A.png before a.png on every machine."""
    parts = re.split(r"(\d+)", path.name)
    key = tuple((0, int(p), p) if p.isdecimal() else (1, 0, p.casefold()) for p in parts if p)
    return key, path.name


def image_files(folder: Path) -> list[Path]:
    """The images directly in `folder`, in natural order, without hidden and system files.

    Raises InputError for a folder that cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if not is_hidden(path.name)]
        images = [path for path in files if kind_of(path) == "image"]
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); check its permissions."
        ) from error
    return sorted(images, key=natural_key)


def read_image(path: Path, background: Rgb = (0, 0, 0)) -> Image.Image:
    """The picture in an image file: upright, 8-bit sRGB, transparent pixels over `background`.

    Pack, unpack, train, caption and reference images all read pictures this way. Raises
    InputError if the file is missing, broken, or of an unknown brightness (`as_srgb`).
    """
    with open_image(path) as image:
        return as_srgb(image, background)


def write_image(image: Image.Image, path: Path, format: str = "", **options: Any) -> None:
    """Write an image; without `format` the suffix decides. OSError if the disk is full.

    It is encoded in memory first, because Pillow does not notice when a disk takes only a part.
    """
    file = io.BytesIO()
    image.save(file, format or Image.registered_extensions()[path.suffix.lower()], **options)
    path.write_bytes(file.getbuffer())


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file. Decode it within the block: `read_image`, or `as_srgb` for its frames.

    Raises InputError if the file is missing or broken, also when decoding finds out.
    """
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT_BYTES
    try:
        with warnings.catch_warnings():
            # Pillow warns about pictures half as large as those that it refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_regular(path) as file, Image.open(file) as image:
                yield image
    except UnknownBrightnessError as error:
        raise InputError(f"{path} has {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the name.") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(
            f"{path} has more than {limit} megapixels, the limit for an image; scale it down."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        if "MAX_TEXT" in str(error):
            fact = f"its text chunks hold more than {_MAX_TEXT_BYTES // 1_000_000} MB"
        else:  # an OSError without errno is how Pillow reports a broken file
            fact = getattr(error, "strerror", None) or "it is broken, or not an image"
        raise InputError(f"{path} cannot be read ({fact}); replace it or leave it out.") from error


def is_animated(path: Path) -> bool:
    """Whether a file is a GIF, an animated WebP, PNG or AVIF, or a TIFF of several pages.

    Reads only the first bytes. False for an unreadable file: reading it later reports why.
    """
    try:
        with open_regular(path) as file:
            head = file.read(64_000)
            if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                if not _has_next_page(file, head):
                    return False
                with open_image(path) as image:
                    return len(pages(image)) > 1
    except (OSError, InputError):
        return False
    if head[:3] == b"GIF":
        return True
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20] & 0x02) if len(head) > 20 else False
    if head[4:12] == b"ftypavis":
        return True
    if head[:8] == b"\x89PNG\r\n\x1a\n":  # in an APNG, acTL comes before the first IDAT
        return 0 <= head.find(b"acTL") < (head.find(b"IDAT") % 64_001)
    return False


def _has_next_page(file: BinaryIO, head: bytes) -> bool:
    """Whether a TIFF file has a second page: a quick no for folders full of single images."""
    order = "<" if head[:2] == b"II" else ">"
    if head[2:4] in (b"+\0", b"\0+"):
        return True  # BigTIFF has another layout
    file.seek(struct.unpack(f"{order}I", head[4:8].ljust(4, b"\0"))[0])
    entries = struct.unpack(f"{order}H", file.read(2).ljust(2, b"\0"))[0]
    file.seek(entries * 12, 1)
    return file.read(4).strip(b"\0") != b""


def is_hdr(path: Path) -> bool:
    """Whether an AVIF or PNG file holds PQ or HLG, which Pillow would not tone-map.

    Reads only the first bytes. False for an unreadable file: reading it later reports why.
    """
    if path.suffix.lower() not in (".avif", ".png"):
        return False
    try:
        with open_regular(path) as file:
            head = file.read(4_096)
    except OSError:
        return False
    # The code points of ITU-T H.273: an AVIF's are 16 bits long, a PNG's 8.
    if (at := head.find(b"colrnclx")) >= 0 and head[4:8] == b"ftyp":
        return int.from_bytes(head[at + 10 : at + 12], "big") in _HDR_TRANSFERS
    if (at := head.find(b"cICP")) >= 0 and head[:4] == b"\x89PNG":
        return head[at + 5] in _HDR_TRANSFERS
    return False


def pages(image: Image.Image) -> list[int]:
    """The frame numbers of an image that are its frames: no cover picture and no thumbnail."""
    numbers = range(getattr(image, "n_frames", 1))
    if image.format != "TIFF":
        # An APNG may show a picture of its own to viewers that know no animations.
        return list(numbers[1:] if image.info.get("default_image") else numbers)
    found = []
    for number in numbers:
        image.seek(number)
        tags: Any = getattr(image, "tag_v2", {})
        if not tags.get(_NEW_SUBFILE_TYPE, 0) & 1:
            found.append(number)
    return found


class UnknownBrightnessError(ValueError):
    """An image with values of an unknown scale. The message completes "the file has ..."."""


def as_srgb(
    image: Image.Image, background: Rgb = (0, 0, 0), *, upright: bool = True
) -> Image.Image:
    """`image` as 8-bit sRGB, upright, with its transparent pixels over `background`.

    Colors are read by the ICC profile, else by the gamma of a PNG. 16-bit values are scaled from
    0...65535, and so are 32-bit whole numbers. Floating-point values are scaled from 0...1.
    Without `upright` the EXIF orientation is ignored.

    Raises UnknownBrightnessError for values outside these ranges.
    """
    image.load()  # the file may be closed when the result is used
    is_png, to_srgb = image.format == "PNG", _conversion(image.info)
    if upright and image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    image = _eight_bits(image, is_png=is_png)
    if not image.has_transparency_data:
        return to_srgb(image)
    over = image.convert("RGBA")
    gray = image.mode in ("L", "LA", "La")
    opaque = over.convert("L") if gray else over.convert("RGB")
    colors = to_srgb(opaque)
    colors.putalpha(over.getchannel("A"))
    under = Image.new("RGBA", colors.size, (*background, 255))
    return Image.alpha_composite(under, colors).convert("RGB")


def _eight_bits(image: Image.Image, *, is_png: bool) -> Image.Image:
    """`image` in a mode of 8 bits a channel. Pillow itself would clip larger values at 255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and is_png):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "I":
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65_535 or 0 < high <= 255:
            raise UnknownBrightnessError(
                f"32-bit values from {low} to {high}, and only the range 0 to 65535 has a known "
                "brightness; save it with 8 or 16 bits."
            )
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        floats = np.asarray(image)
        least, most = float(floats.min()), float(floats.max())
        if not (least >= -_FLOAT_SLACK and most <= 1 + _FLOAT_SLACK):  # NaN is out of range as well
            raise UnknownBrightnessError(
                f"floating-point values from {least:g} to {most:g}, and only the range 0 to 1 has "
                "a known brightness; save it with 8 or 16 bits."
            )
        return Image.fromarray(np.round(np.clip(floats, 0, 1) * 255).astype(np.uint8))
    return image


def _conversion(info: Mapping[Any, Any]) -> Callable[[Image.Image], Image.Image]:
    """The function that makes the colors of an 8-bit image without transparency sRGB.

    As PNG says (third edition, 13.11), a profile counts most, then the mark of sRGB, then gamma.
    """
    profile: bytes | None = info.get("icc_profile")
    gamma = 0.0 if profile or "srgb" in info else float(info.get("gamma", 0))

    def convert(image: Image.Image) -> Image.Image:
        if image.mode == "1":
            image = image.convert("L")
        if image.mode == "LAB":
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            return _apply(ImageCms.buildTransform(lab, srgb, "LAB", "RGB"), image)
        if image.mode not in ("RGB", "L", "CMYK"):
            image = image.convert("RGB")
        if profile and (transform := _transform(profile, image.mode)):
            return _apply(transform, image)
        if image.mode != "RGB":
            image = image.convert("RGB")  # makes a copy
        if gamma and abs(gamma - _SRGB_GAMMA) > _GAMMA_SLACK:
            return image.point(_gamma_table(gamma))
        return image

    return convert


@lru_cache(maxsize=4)
def _gamma_table(gamma: float) -> list[int]:
    """For each 8-bit value of R, G and B, which is light to the power of `gamma`, sRGB's."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return 3 * [int(value) for value in np.round(255 * curve)]


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """From `profile` to sRGB; None for a profile that is broken, of another mode, or sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None  # viewers ignore a profile that they cannot use
    if mode == "CMYK":
        return transform
    ramp = np.linspace(0, 255, 9).astype(np.uint8)
    colors = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(27, 27, 3)
    probe = Image.fromarray(colors if mode == "RGB" else colors[..., 0])
    before = np.asarray(probe.convert("RGB")).astype(int)
    after = np.asarray(_apply(transform, probe)).astype(int)
    return None if np.abs(after - before).max() <= _UNCHANGED else transform


def _apply(transform: ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted: Any = ImageCms.applyTransform(image, transform)  # None only if done in place
    return converted  # type: ignore[no-any-return]
