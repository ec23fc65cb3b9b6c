"""How long packing takes, beside decoding alone and beside an ffmpeg loop."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from gridctl.geometry import Grid
from gridctl.media.read import Frames
from gridctl.media.write import write_clip
from gridctl.pack import pack
from gridctl.progress import Progress

GRID = Grid(rows=4, cols=6, cell=(256, 256))
CLIP_SIZE = (1280, 720)  # (width, height)
CLIP_FPS = 24.0


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One piece of work: the median of its wall times, and pack's time over it."""

    work: str
    seconds: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class PackBench:
    """What was measured, on what, and what could not be."""

    about: str
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]


def bench_pack(
    *, clips: int = 4, frames: int = 120, repeats: int = 5, progress: Progress | None = None
) -> PackBench:
    """Pack `clips` 720p H.264 clips of `frames` frames, made here, `repeats` times.

    The contestants take turns, so that a busy moment of the machine hits them all.
    """
    with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as name:
        folder = Path(name)
        sources = make_clips(folder / "clips", clips=clips, frames=frames)
        contestants: dict[str, Callable[[], None]] = {
            "gridctl pack": lambda: _pack(sources, folder / "vidgrid"),
            "decoding alone (PyAV)": lambda: _decode(sources),
        }
        notes = []
        if shutil.which("ffmpeg"):
            contestants["ffmpeg loop: select, crop, scale, tile"] = lambda: _ffmpeg(
                sources, folder / "ffmpeg", frames
            )
        else:
            notes.append("ffmpeg is not installed, so it was not measured: apt install ffmpeg.")
        times = take_turns(contestants, repeats, progress)
    own = times["gridctl pack"]
    return PackBench(
        about=f"{clips} H.264 clips of {frames} frames at 1280x720 to {GRID}; "
        f"medians of {repeats} rounds",
        measurements=tuple(
            Measurement(work=work, seconds=seconds, ratio=own / seconds)
            for work, seconds in times.items()
        ),
        notes=tuple(notes),
    )


def take_turns(
    contestants: dict[str, Callable[[], None]], repeats: int, progress: Progress | None = None
) -> dict[str, float]:
    """Run all contestants, round after round → the median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for done in range(repeats):
        for name, work in contestants.items():
            if progress:
                progress(done, repeats, name)
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def make_clips(folder: Path, *, clips: int, frames: int) -> list[Path]:
    """Write H.264 clips of a drifting, textured picture; real work for a decoder."""
    paths = []
    for number in range(clips):
        path = folder / f"clip{number}.mp4"
        write_clip(_drift(frames, seed=number), path, fps=CLIP_FPS)
        paths.append(path)
    return paths


def _drift(frames: int, seed: int) -> Frames:
    width, height = CLIP_SIZE
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    picture = coarse.repeat(16, axis=0).repeat(16, axis=1)
    picture ^= random.integers(0, 8, picture.shape, dtype=np.uint8)
    return np.stack([np.roll(picture, (2 * k, 5 * k), axis=(0, 1)) for k in range(frames)])


def _pack(sources: Sequence[Path], output: Path) -> None:
    result = pack(sources, output, grid=GRID, force=True)
    if result.failed:  # a benchmark of work that was not done would be a lie
        raise AssertionError(result.failed[0].reason)


def _decode(sources: Sequence[Path]) -> None:
    for source in sources:
        with av.open(str(source)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for _ in container.decode(stream):
                pass


def _ffmpeg(sources: Sequence[Path], output: Path, frames: int) -> None:
    output.mkdir(exist_ok=True)
    width, height = GRID.cell
    step = max(1, frames // GRID.num_frames)
    filters = (
        f"select=not(mod(n\\,{step})),crop=ih:ih,scale={width}:{height}:flags=area,"
        f"tile={GRID.cols}x{GRID.rows}"
    )
    for source in sources:
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-vf", filters]
        target = str(output / f"{source.stem}.jpg")
        command += ["-frames:v", "1", "-q:v", "2", "-pix_fmt", "yuvj444p", target]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
