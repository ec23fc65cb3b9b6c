"""Writing a clip: H.264 in MP4, an animated GIF, or a folder of PNG frames, by the name."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.files import atomic_file, atomic_folder
from gridctl.media.read import Frames

ClipFormat = Literal["mp4", "gif", "frames"]

_BT709 = 1  # ITU-T H.273's number for the primaries, the transfer and the matrix alike


def clip_format(path: Path | str) -> ClipFormat:
    """What a clip at `path` is written as: .mp4, .gif, or no suffix for a folder of frames.

    Raises UsageError for any other suffix. Ask before long work, not after it.
    """
    suffix = Path(path).suffix.lower()
    if not suffix or os.fspath(path).endswith("/"):
        return "frames"
    if suffix == ".mp4":
        return "mp4"
    if suffix == ".gif":
        return "gif"
    raise UsageError(
        f"{path}: a clip cannot be written as {suffix}; name it .mp4 or .gif, "
        "or end the name with / for a folder of PNG frames."
    )


def write_clip(frames: Frames, path: Path | str, *, fps: float, force: bool = False) -> None:
    """Write frames (F, H, W, 3) uint8, played at `fps`; the file is whole or absent.

    MP4 is H.264 yuv420p that plays everywhere, near-lossless; an odd side repeats its last
    pixel. Frame files are lossless.

    Raises UsageError for an unknown suffix or rate, InputError if `path` exists without
    `force` or cannot be written.
    """
    kind = clip_format(path)
    check_fps(fps)
    path = Path(path)
    if kind == "frames":
        refuse_to_lose(path)
        with atomic_folder(path, force=force) as folder:
            _write_frames(frames, folder)
        return
    with atomic_file(path, force=force) as temporary:
        if kind == "mp4":
            _write_mp4(frames, temporary, fps)
        else:
            _write_gif(frames, temporary, fps)


def check_fps(fps: float) -> None:
    """Raise UsageError for a rate that a file cannot have."""
    if not 0.001 <= fps <= 1000:
        raise UsageError(f"fps is {fps}; it is a number from 0.001 to 1000.")


def refuse_to_lose(folder: Path) -> None:
    """Raise InputError for a folder with more than frames in it: it would be replaced whole."""
    others = [p for p in folder.glob("*") if not fnmatch(p.name, "frame_*.png")]
    if folder.is_dir() and others:
        raise InputError(
            f"{folder} holds other files than frames, such as {others[0].name}, and is not "
            "replaced; choose another name."
        )


def _write_mp4(frames: Frames, path: Path, fps: float) -> None:
    height, width = frames.shape[1:3]
    if width % 2 or height % 2:  # 4:2:0 colour has one sample for 2x2 pixels
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    options = {"movflags": "+faststart"}  # the index first: plays while it downloads
    with av.open(f"file:{path}", "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_010))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12", "preset": "medium"}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        for picture in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(
                stream.encode(rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709))
            )
        container.mux(stream.encode())


def _write_gif(frames: Frames, path: Path, fps: float) -> None:
    # GIF counts in hundredths of a second: round the times, not the steps, so no drift
    # builds up. Browsers play steps below two hundredths at a tenth of a second.
    ends = [round((index + 1) * 100 / fps) for index in range(len(frames))]
    steps = [max(2, end - start) * 10 for start, end in zip([0, *ends], ends, strict=False)]
    first, *others = (Image.fromarray(picture) for picture in frames)
    first.save(path, save_all=True, append_images=others, duration=steps, loop=0)


def _write_frames(frames: Frames, folder: Path) -> None:
    digits = max(4, len(str(len(frames))))
    for number, picture in enumerate(frames, start=1):
        Image.fromarray(picture).save(folder / f"frame_{number:0{digits}}.png")
