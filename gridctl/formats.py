"""Formats that gridctl writes: suffixes, what each can hold, and codecs, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Codec:
    """FFmpeg's encoder of a video codec. `crf` is its near-lossless quality, 0 is best."""

    encoder: str
    crf: int
    max_crf: int


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a format can hold.

    `clip` is how it holds a clip, `is_picture` says whether it holds a single image or a grid
    image, with sides of up to `max_side` pixels. The first of `codecs` is the default.
    """

    suffixes: tuple[str, ...] = ()
    clip: Literal["video", "animation", "folder"] | None = None
    is_picture: bool = False
    is_lossless: bool = False
    max_side: int | None = None
    codecs: tuple[str, ...] = ()


CODECS = {
    "h264": Codec(encoder="libx264", crf=12, max_crf=51),
    "hevc": Codec(encoder="libx265", crf=14, max_crf=51),
    "av1": Codec(encoder="libsvtav1", crf=16, max_crf=63),
    "vp9": Codec(encoder="libvpx-vp9", crf=16, max_crf=63),
}
FORMATS = {
    "mp4": Format(suffixes=(".mp4",), clip="video", codecs=("h264", "hevc", "av1")),
    "webm": Format(suffixes=(".webm",), clip="video", codecs=("vp9", "av1")),
    "gif": Format(suffixes=(".gif",), clip="animation"),
    "webp": Format(
        suffixes=(".webp",), clip="animation", is_picture=True, is_lossless=True, max_side=16_383
    ),
    "apng": Format(suffixes=(".apng",), clip="animation", is_lossless=True),
    "frames": Format(clip="folder", is_lossless=True),  # PNG files
    "jpg": Format(suffixes=(".jpg", ".jpeg"), clip="folder", is_picture=True, max_side=65_500),
    "png": Format(suffixes=(".png",), is_picture=True, is_lossless=True, max_side=2**31 - 1),
}
CLIP_FORMATS = tuple(name for name, format in FORMATS.items() if format.clip)
PICTURE_FORMATS = tuple(sorted(name for name, format in FORMATS.items() if format.is_picture))
# Suffix → format of a clip in one file.
CLIP_SUFFIXES = {
    suffix: name
    for name, format in FORMATS.items()
    if format.clip in ("video", "animation")
    for suffix in format.suffixes
}
PICTURE_SUFFIXES = tuple(suffix for name in PICTURE_FORMATS for suffix in FORMATS[name].suffixes)
