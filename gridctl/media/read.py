"""Reading: N frames, spread evenly over a clip, each cropped and scaled to its cell.

A clip is a video file (PyAV) or a folder of images (Pillow). Memory holds one decoded
frame and the picked cells, however long the clip is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from PIL import Image, ImageOps

from gridctl.errors import InputError
from gridctl.geometry import Grid

Frames = npt.NDArray[np.uint8]  # (F, H, W, 3), RGB
Picture = npt.NDArray[np.uint8]  # (H, W, 3), RGB
Tail = Literal["error", "pad"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
IMAGE_SEQUENCE_FPS = 24.0  # a folder of images does not tell its rate


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames (F, H, W, 3) uint8, their times from the clip's start, and the rate at which
    these frames last as long as the whole clip."""

    frames: Frames
    times_seconds: tuple[float, ...]
    fps: float


def read_frames(source: Path, grid: Grid, *, tail: Tail = "error") -> Clip:
    """Sample `grid.num_frames` frames evenly over the whole clip, first and last included.

    Each is cropped about its centre to the cell's shape and scaled to the cell. With
    `tail="pad"`, a clip that is shorter than the grid gives the frames that it has.

    Raises InputError for a source that is missing, broken, no clip, or too short.
    """
    if source.is_dir():
        return _read_folder(source, grid, tail)
    return _read_video(source, grid, tail)


def read_image(path: Path, size: tuple[int, int]) -> Picture:
    """One image file, upright, cropped and scaled to `size` (width, height) → (H, W, 3)."""
    with open_image(path) as image:
        return fit(ImageOps.exif_transpose(image).convert("RGB"), size)


def sample_indices(count: int, wanted: int) -> tuple[int, ...]:
    """`wanted` of `count` frames, evenly spread, first and last included; all if fewer.

    A single wanted frame is the first.
    """
    if wanted >= count:
        return tuple(range(count))
    steps = max(1, wanted - 1)
    # Integers, rounding halves up: the same picks on every machine.
    return tuple((2 * i * (count - 1) + steps) // (2 * steps) for i in range(wanted))


def fit(image: Image.Image, size: tuple[int, int]) -> Picture:
    """Crop about the centre to the shape of `size`, then scale to it → (H, W, 3)."""
    shrinks = image.width >= size[0] and image.height >= size[1]
    # For shrinking, Hamming is as clean as Lanczos at less than half its time.
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.LANCZOS
    return np.asarray(ImageOps.fit(image, size, method=method))


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p.casefold()) for p in parts if p)


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
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the name.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # An OSError without errno is Pillow's word for a broken file, name and all.
        fact = getattr(error, "strerror", None) or "it is broken, too large, or no image"
        raise InputError(f"{path} cannot be read ({fact}); replace it or leave it out.") from error


def check_length(source: Path, count: int, grid: Grid, tail: Tail) -> None:
    """Raise InputError for a clip of `count` frames that `grid` cannot take."""
    if count == 0:
        raise InputError(f"{source} has no frame that can be decoded; replace it or leave it out.")
    if count >= grid.num_frames or tail == "pad":
        return
    rows, cols = _largest_grid(count, grid)
    raise InputError(
        f"{source} has {count} frame{'s' if count > 1 else ''}; "
        f"a {grid.rows}x{grid.cols} grid needs {grid.num_frames}. "
        f"Use --rows {rows} --cols {cols}, or --tail pad."
    )


def _largest_grid(count: int, grid: Grid) -> tuple[int, int]:
    """(rows, cols) within `grid` that hold the most of `count` frames, nearest in shape."""
    sizes = [(r, c) for r in range(1, grid.rows + 1) for c in range(1, grid.cols + 1)]
    return max(
        (size for size in sizes if size[0] * size[1] <= count),
        key=lambda size: (size[0] * size[1], -abs(size[0] / size[1] - grid.rows / grid.cols)),
    )


def _rate(times: Sequence[float], count: int, fallback: float) -> float:
    """Frames per second at which the frames at `times` last as long as all `count` did."""
    span = times[-1] - times[0]  # from the first frame's start to the last one's
    if count < 2 or len(times) < 2 or span <= 0:
        return fallback
    duration = span * count / (count - 1)
    return round(len(times) / duration, 6)


# ---------------------------------------------------------------- folders of images


def _read_folder(folder: Path, grid: Grid, tail: Tail) -> Clip:
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder} holds no video and no images; name a folder of either.")
    check_length(folder, len(files), grid, tail)
    picks = sample_indices(len(files), grid.num_frames)
    times = tuple(round(pick / IMAGE_SEQUENCE_FPS, 6) for pick in picks)
    return Clip(
        frames=np.stack([read_image(files[pick], grid.cell) for pick in picks]),
        times_seconds=times,
        fps=_rate(times, len(files), IMAGE_SEQUENCE_FPS),
    )


# ---------------------------------------------------------------- video files


def _read_video(path: Path, grid: Grid, tail: Tail) -> Clip:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name.")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); download or export it again.")
    count = _count_packets(path)
    while True:
        picks = sample_indices(count, grid.num_frames)
        cells, times, rate, decoded = _decode(path, picks, grid.cell)
        if decoded == count:
            break
        count = decoded  # some packets held no frame to show: pick again among those that do
    check_length(path, count, grid, tail)
    return Clip(
        frames=np.stack(cells),
        times_seconds=tuple(round(time - times[0], 6) for time in times),
        fps=_rate(times, count, rate),
    )


def _count_packets(path: Path) -> int:
    """How many frames the file holds by its packets: reading, no decoding."""
    with _open_video(path) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)


def _decode(
    path: Path, picks: Sequence[int], cell: tuple[int, int]
) -> tuple[list[Picture], list[float], float, int]:
    """Decode the clip once → the picks' cells, their times, the nominal rate, the count."""
    wanted = set(picks)
    cells: list[Picture] = []
    times: list[float] = []
    count = 0
    with _open_video(path) as (container, stream):
        rate = float(stream.average_rate or IMAGE_SEQUENCE_FPS)
        for frame in container.decode(stream):
            if count in wanted:
                cells.append(fit(_upright(frame), cell))
                times.append(count / rate if frame.time is None else frame.time)
            count += 1
    return cells, times, rate, count


def _upright(frame: av.VideoFrame) -> Image.Image:
    """The frame as an RGB image, turned as its display matrix says (phone clips)."""
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    turns = round(frame.rotation / 90) % 4  # counterclockwise, as Pillow counts too
    if not turns:
        return image
    transpose = Image.Transpose
    return image.transpose(
        (transpose.ROTATE_90, transpose.ROTATE_180, transpose.ROTATE_270)[turns - 1]
    )


@contextmanager
def _open_video(
    path: Path,
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video; what FFmpeg cannot do with it, here or in the block, is an InputError."""
    try:
        # "file:" keeps FFmpeg from taking a name with a colon or a dash for a protocol.
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video stream; leave it out.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (FFmpegError, OSError, ValueError) as error:
        fact = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} cannot be read as a video ({fact}); replace it or leave it out."
        ) from error
