"""Clips for tests, written with PyAV alone, so that reading is not tested with our own writer."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from gridctl.media.clip import Clip
from gridctl.media.fit import Fit


def counted(count: int, size: tuple[int, int] = (64, 48), step: int = 6) -> np.ndarray:
    """Frames whose gray level tells their number: 6 k + 20."""
    width, height = size
    levels = (np.arange(count) * step % 216 + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def textured(count: int, size: tuple[int, int] = (96, 64), seed: int = 0) -> np.ndarray:
    """Frames that all differ, and are work for a codec: blocks that drift over each other."""
    width, height = size
    random = np.random.default_rng(seed)
    back, front = (
        random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        .repeat(8, axis=0)
        .repeat(8, axis=1)[:height, :width]
        for _ in range(2)
    )
    frames = np.stack([np.roll(back, (k, 3 * k), axis=(0, 1)) for k in range(count)])
    for k in range(count):
        frames[k, k % 32 : k % 32 + 24, 10:40] = front[:24, :30] ^ np.uint8(k * 5 % 256)
    return frames


def write(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    fps: int = 12,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    stamps: list[int] | None = None,
    container_format: str | None = None,
    context: dict[str, Any] | None = None,
    source_format: str = "rgb24",
) -> Path:
    """A video of `frames`; `stamps` are their times in thousandths, else they run at `fps`."""
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.pix_fmt = pix_fmt
        stream.options = options if options is not None else {}
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source_format)
            if number == 0:
                stream.width, stream.height = frame.width, frame.height
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_clip(path: Path, frames: np.ndarray, fps: int = 12) -> Path:
    """Near-lossless H.264."""
    return write(path, frames, fps=fps, options={"crf": "1"})


def decode_all(path: Path) -> list[np.ndarray]:
    """All frames that plain decoding gives, at their own size."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def cells_of(clip: Clip, size: tuple[int, int] = (32, 16), **fit: Any) -> np.ndarray:
    """All frames of a clip as cells."""
    every = np.arange(len(clip.times_seconds))
    return np.stack(list(clip.cells(every, Fit(cell=size, **fit))))


def numbers(frames: np.ndarray) -> list[int]:
    """What `counted` counted."""
    return [round((float(frame.mean()) - 20) / 6) for frame in frames]


def picture_book(count: int = 5, width: int = 48, height: int = 32) -> np.ndarray:
    """Smooth, saturated frames: errors of color conversion show."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    colors = [(230, 20, 20), (20, 230, 20), (20, 20, 230), (200, 100, 50), (128, 128, 128)]
    for k in range(count):
        frames[k] = colors[k % len(colors)]
    return frames
