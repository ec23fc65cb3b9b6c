"""Write a clip: MP4, WebM, animated GIF, WebP or APNG, or a folder of frames, by its name."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from gridctl.errors import InputError, UsageError, listed
from gridctl.files import atomic_file, atomic_folder
from gridctl.formats import CLIP_SUFFIXES, CODECS, FORMATS
from gridctl.media.animation import write_animation
from gridctl.media.images import Frames, Picture, write_image
from gridctl.media.record import RECORD_FILE, add_record

_BT709 = 1  # code point of ITU-T H.273 for primaries, transfer and matrix
_OPTIONS = {
    # Without B-frames: they are where `_without_avx512` showed most.
    "libx264": {"preset": "medium", "bf": "0"},
    "libx265": {"preset": "medium", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "8"},
    "libvpx-vp9": {"b": "0", "row-mt": "1", "cpu-used": "4"},
}


def clip_format(path: Path | str, default: str | None = None) -> str:
    """The format of a clip at `path`: by its suffix, or frames for a folder.

    `default` says whether a folder holds PNG or JPEG frames. Raises UsageError for an unknown
    suffix. Call it before long work, not after it.
    """
    suffix = Path(path).suffix.lower()
    if not suffix or os.fspath(path).endswith("/"):
        return "jpg" if default == "jpg" else "frames"
    if suffix in CLIP_SUFFIXES:
        return CLIP_SUFFIXES[suffix]
    raise UsageError(
        f"{path}: a clip cannot be written as {suffix}; name it {listed(CLIP_SUFFIXES)}, or end "
        "the name with / for a folder of frames."
    )


@cache
def _without_avx512() -> dict[str, str]:
    """Options with which x264 leaves a processor's AVX-512 alone.

    That code reads memory that nobody wrote, so the same frames gave other bytes each time:
    often with B-frames, now and then without. Linux says whether the processor has it.
    """
    with suppress(OSError):
        if "avx512" in Path("/proc/cpuinfo").read_text():
            return {"x264-params": "asm=avx2"}
    return {}


def check_codec(kind: str, codec: str | None, crf: int | None) -> tuple[str, int]:
    """(encoder, quality) of a video. Raises UsageError for what the container does not take."""
    choices = FORMATS[kind].codecs
    if not choices:
        if codec is not None or crf is not None:
            raise UsageError(f"{kind} takes no codec and no crf; they are for mp4 and webm.")
        return "", 0
    if codec is not None and codec not in choices:
        raise UsageError(f"codec {codec!r} is not for {kind}; choose {', '.join(choices)}.")
    chosen = CODECS[codec or choices[0]]
    if crf is None:
        return chosen.encoder, chosen.crf
    if not 0 <= crf <= chosen.max_crf:
        raise UsageError(
            f"crf is {crf}; {chosen.encoder} takes 0 (best) to {chosen.max_crf} (smallest)."
        )
    return chosen.encoder, crf


def write_clip(
    frames: Frames | Iterable[Picture],
    path: Path | str,
    *,
    fps: float,
    format: str | None = None,
    codec: str | None = None,
    crf: int | None = None,
    force: bool = False,
    record: str | None = None,
) -> None:
    """Write frames, each (H, W, 3) uint8, to be played at `fps`. The file is whole or absent.

    By default MP4 is H.264 yuv420p, which plays everywhere, and near-lossless. An odd side
    repeats its last pixel. WebP, APNG and PNG frames are lossless. Videos and folders read a
    generator of frames one at a time, so a long clip needs no more memory than a short one.
    `format` overrides the suffix, and chooses PNG or JPEG for a folder. `record` is a record of
    how the clip was made (`record_text`), which the file carries.

    Raises UsageError for an unknown suffix, codec or frame rate. Raises InputError if `path`
    exists and `force` is not given, or if it cannot be written.
    """
    kind = clip_format(path, format)
    check_fps(fps)
    encoder, quality = check_codec(kind, codec, crf)
    path = Path(path)
    if FORMATS[kind].clip == "folder":
        refuse_to_lose(path)
        with atomic_folder(path, force=force) as folder:
            _write_frames(frames, folder, "png" if kind == "frames" else "jpg")
            if record:
                add_record(folder, record)
        return
    with atomic_file(path, force=force) as temporary:
        if FORMATS[kind].clip == "video":
            _write_video(frames, temporary, fps, kind, encoder, quality, record)
        else:
            write_animation(frames, temporary, fps, kind)
            if record:
                add_record(temporary, record)


def check_fps(fps: float) -> None:
    """Raise UsageError for an impossible frame rate."""
    if not 0.001 <= fps <= 1000:
        raise UsageError(f"fps is {fps}; it must be a number from 0.001 to 1000.")


def refuse_to_lose(folder: Path) -> None:
    """Raise InputError for a folder with other files than frames, which would be lost."""
    ours = rf"frame_\d+\.(png|jpg)|{re.escape(RECORD_FILE)}"
    others = [path for path in folder.glob("*") if not re.fullmatch(ours, path.name)]
    if folder.is_dir() and others:
        raise InputError(
            f"{folder} holds other files than frames, such as {others[0].name}, and is not "
            "replaced; choose another name."
        )


def _write_video(
    frames: Iterable[Picture],
    path: Path,
    fps: float,
    kind: str,
    encoder: str,
    quality: int,
    record: str | None,
) -> None:
    options = {"movflags": "+faststart"} if kind == "mp4" else {}  # plays while it downloads
    pictures = iter(frames)
    first = _even(next(pictures))
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints to stderr; errors only
    with av.open(f"file:{path}", "w", format=kind, options=options) as container:
        if record:
            container.metadata["comment"] = record
        try:
            stream = container.add_stream(encoder, rate=Fraction(fps).limit_denominator(10_010))
        except (FFmpegError, ValueError) as error:
            raise InputError(
                f"{path.name} needs the encoder {encoder}, which this PyAV lacks; "
                "choose another --codec."
            ) from error
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(quality), **_OPTIONS[encoder]}
        if encoder == "libx264":
            stream.options |= _without_avx512()
        if encoder == "libx265":
            stream.codec_context.codec_tag = "hvc1"  # Apple's players need it
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        for picture in itertools.chain([first], map(_even, pictures)):
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(
                stream.encode(rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709))
            )
        container.mux(stream.encode())


def _even(picture: Picture) -> Picture:
    """The picture with even sides. 4:2:0 video has one color sample for 2x2 pixels."""
    height, width = picture.shape[:2]
    if width % 2 or height % 2:
        return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return picture


def _write_frames(frames: Iterable[Picture], folder: Path, suffix: str) -> None:
    written: list[Path] = []
    for number, picture in enumerate(frames, start=1):
        written.append(folder / f"frame_{number:04}.{suffix}")
        quality: dict[str, Any] = {"quality": 95, "subsampling": "4:4:4"} if suffix == "jpg" else {}
        write_image(Image.fromarray(picture), written[-1], **quality)
    digits = len(str(len(written)))
    if digits > 4:  # only now their number is known
        for number, path in enumerate(written, start=1):
            path.rename(folder / f"frame_{number:0{digits}}.{suffix}")


def clip_suffix(kind: str) -> str:
    """The suffix of this format, or nothing for a folder of frames."""
    return "" if FORMATS[kind].clip == "folder" else FORMATS[kind].suffixes[0]
