"""Any Pillow image as 8-bit sRGB: bit depth, color profile, transparency and orientation."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

Rgb = tuple[int, int, int]
_ORIENTATION = 0x0112  # EXIF
_UNCHANGED = 2  # of 255: a color profile that changes no color by more is sRGB
_FLOAT_SLACK = 1e-3
_SRGB_GAMMA, _GAMMA_SLACK = 1 / 2.2, 0.03  # of PNGs whose gamma is about sRGB's


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
            return _apply(_lab_to_srgb(), image)
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


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
