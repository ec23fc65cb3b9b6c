"""How long packing takes, next to decoding alone, an ffmpeg loop, and PNG frames with OpenCV."""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from gridctl.bench.names import NamesRow, bench_names
from gridctl.errors import GridctlError
from gridctl.geometry import Grid
from gridctl.media.images import Picture
from gridctl.media.write import write_clip
from gridctl.progress import Progress

GRID = Grid(rows=4, cols=6, cell=(256, 256))
CLIP_SIZE = (1280, 720)  # (width, height)
CLIP_FPS = 24
GOP_SECONDS = 5  # time between key frames of the long clip


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One way to do the work: median wall time, gridctl's time over it, and the target for that."""

    work: str
    seconds: float
    ratio: float
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Peak memory of packing a clip, in the process that took the most."""

    clip_seconds: float
    megabytes: float


@dataclass(frozen=True, kw_only=True)
class PackBench:
    """What was measured, on which clips, and notes on what was not."""

    about: str
    windows: tuple[Measurement, ...]
    uniform: tuple[Measurement, ...]
    memory: tuple[Peak, ...]
    names: tuple[NamesRow, ...]
    notes: tuple[str, ...]


def bench_pack(
    *,
    clips: int = 8,
    frames: int = 390,
    minutes: float = 40,
    repeats: int = 5,
    names: int = 100_000,
    progress: Progress | None = None,
) -> PackBench:
    """Pack 720p H.264 clips that are made here, and one of many `minutes`, `repeats` times.

    gridctl runs as the command that a user would run. The contestants take turns, so that a busy
    moment of the machine affects all of them. `names` is how many clips are listed.
    """
    notes = []
    ffmpeg = shutil.which("ffmpeg")
    opencv = importlib.util.find_spec("cv2")
    if not ffmpeg:
        notes.append("ffmpeg is not installed, so PyAV decodes instead: apt install ffmpeg.")
    elif not opencv:
        notes.append("OpenCV is not installed, so it was not measured: "
                     "pip install opencv-python-headless.")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as name:
        folder = Path(name)
        sources = make_clips(folder / "clips", clips=clips, frames=frames)
        long = make_long_clip(folder / "long.mp4", minutes=minutes)
        windows: dict[str, tuple[Callable[[], None], float | None]] = {
            "gridctl pack --sample windows": (
                lambda: _pack(sources, folder / "vidgrid", "--sample", "windows"), None,
            ),
            "decoding alone": (lambda: _decode(sources), 1.15),
        }  # fmt: skip
        if ffmpeg:
            windows["ffmpeg loop: crop, scale, tile"] = (
                lambda: _ffmpeg(sources, folder / "ffmpeg"), 0.70,
            )  # fmt: skip
        uniform: dict[str, tuple[Callable[[], None], float | None]] = {
            "gridctl pack": (lambda: _pack([long], folder / "uniform"), None),
            "decoding alone": (lambda: _decode([long]), 0.15),
        }
        first = _measure(windows, repeats, progress)
        if ffmpeg and opencv:  # one run: it takes minutes, and the gap is far larger than noise
            taken = take_turns(
                {"PNG frames": lambda: _opencv(sources, folder / "cv2")}, 1, progress
            )["PNG frames"]
            first += (
                Measurement(
                    work="PNG frames, then OpenCV (once)",
                    seconds=taken,
                    ratio=first[0].seconds / taken,
                    limit=0.25,
                ),
            )
        second = _measure(uniform, repeats, progress)
        memory = tuple(_peak(clip, folder / "memory") for clip in (sources[0], long))
    return PackBench(
        about=f"{clips} H.264 clips of {frames} frames at {CLIP_SIZE[0]}x{CLIP_SIZE[1]}, and one "
        f"of {minutes:g} minutes with a key frame each {GOP_SECONDS} seconds, to {GRID}; "
        f"medians of {repeats} rounds",
        windows=first,
        uniform=second,
        memory=memory,
        names=bench_names(clips=names, progress=progress),
        notes=tuple(notes),
    )


def _measure(
    contestants: dict[str, tuple[Callable[[], None], float | None]],
    repeats: int,
    progress: Progress | None,
) -> tuple[Measurement, ...]:
    times = take_turns({name: work for name, (work, _) in contestants.items()}, repeats, progress)
    own = next(iter(times.values()))
    return tuple(
        Measurement(work=name, seconds=seconds, ratio=own / seconds, limit=contestants[name][1])
        for name, seconds in times.items()
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
    if progress:
        progress(repeats, repeats, "")
    return {name: statistics.median(taken) for name, taken in times.items()}


# ------------------------------------------------------------ clips


def make_clips(folder: Path, *, clips: int, frames: int) -> list[Path]:
    """Write H.264 clips of a drifting, textured picture, which is real work for a decoder."""
    paths = []
    for number in range(clips):
        path = folder / f"clip{number}.mp4"
        write_clip(_drift(number, frames), path, fps=CLIP_FPS, crf=20)
        paths.append(path)
    return paths


def make_long_clip(path: Path, *, minutes: float) -> Path:
    """Write a clip of that length. At most 20 seconds are encoded, and their packets repeat."""
    frames = round(minutes * 60 * CLIP_FPS)
    gop = GOP_SECONDS * CLIP_FPS
    unit = min(frames, 4 * gop)
    part = path.with_name(f"part-{path.name}")
    options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", "crf": "20"}
    options["preset"] = "fast"
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=CLIP_FPS)
        stream.width, stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = options
        for picture in _drift(99, unit):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path), "w") as target:
        copy = None
        for repeat in range(-(-frames // unit)):
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                copy = copy or target.add_stream_from_template(stream)
                assert stream.time_base
                shift = round(repeat * unit / CLIP_FPS / stream.time_base)
                for packet in source.demux(stream):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = copy
                        target.mux(packet)
    part.unlink()
    return path


def _drift(seed: int, frames: int) -> Iterator[Picture]:
    width, height = CLIP_SIZE
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(CLIP_SIZE, Image.Resampling.BICUBIC))
    picture = smooth ^ random.integers(0, 8, (height, width, 3), dtype=np.uint8)
    for frame in range(frames):
        yield np.roll(picture, (2 * frame, 5 * frame), axis=(0, 1))


# ------------------------------------------------------------ contestants


def _pack(sources: Sequence[Path], output: Path, *flags: str) -> None:
    command = [sys.executable, "-m", "gridctl", "pack", "--force", "--quiet", "-o", str(output)]
    command += ["--rows", str(GRID.rows), "--cols", str(GRID.cols), "--cell", str(GRID.cell[0])]
    done = subprocess.run(
        [*command, *flags, "--", *map(str, sources)], capture_output=True, text=True
    )
    if done.returncode:  # never time work that was not done
        raise GridctlError(f"gridctl pack failed: {done.stderr.strip()}")


def _decode(sources: Sequence[Path]) -> None:
    for source in sources:
        if shutil.which("ffmpeg"):
            _run(["ffmpeg", "-v", "error", "-i", str(source), "-map", "0:v", "-f", "null", "-"])
            continue
        with av.open(str(source)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for _ in container.decode(stream):
                pass


def _ffmpeg(sources: Sequence[Path], output: Path) -> None:
    output.mkdir(exist_ok=True)
    width, height = GRID.cell
    filters = f"crop=ih:ih,scale={width}:{height}:flags=area,tile={GRID.cols}x{GRID.rows}"
    for source in sources:
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-vf", filters]
        command += ["-q:v", "2", "-pix_fmt", "yuvj444p", str(output / f"{source.stem}_%04d.jpg")]
        _run(command)


def _opencv(sources: Sequence[Path], output: Path) -> None:
    """The usual script: ffmpeg writes PNG frames, OpenCV reads, scales and tiles them."""
    import cv2  # the benchmark says so where it is not installed

    width, height = GRID.cell
    output.mkdir(exist_ok=True)
    for source in sources:
        frames = output / source.stem
        frames.mkdir()
        _run(["ffmpeg", "-v", "error", "-i", str(source), str(frames / "frame_%05d.png")])
        files = sorted(frames.iterdir())
        for grid in range(len(files) // GRID.num_frames):
            canvas = np.empty((GRID.image_size[1], GRID.image_size[0], 3), np.uint8)
            for frame, box in enumerate(GRID.boxes()):
                picture: Any = cv2.imread(str(files[grid * GRID.num_frames + frame]))
                side = min(picture.shape[:2])
                left = (picture.shape[1] - side) // 2
                square = picture[:side, left : left + side]
                canvas[box.slices] = cv2.resize(
                    square, (width, height), interpolation=cv2.INTER_AREA
                )
            target = str(output / f"{source.stem}_{grid:04}.jpg")
            cv2.imwrite(target, canvas, [cv2.IMWRITE_JPEG_QUALITY, 95])
        shutil.rmtree(frames)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


# ------------------------------------------------------------ memory

_PEAK = """
import resource, sys
from pathlib import Path
from gridctl.pack import pack
from gridctl.profile import load_profile

source, output, rows, cols, side = sys.argv[1:]
keys = {"grid.rows": int(rows), "grid.cols": int(cols), "grid.cell": int(side)}
keys |= {"pack.sample": "windows", "pack.workers": 1}
result = pack([Path(source)], Path(output), load_profile(None, keys).profile, force=True)
assert not result.failed, result.failed
print(max(resource.getrusage(who).ru_maxrss
          for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def _peak(clip: Path, output: Path) -> Peak:
    arguments = [str(clip), str(output), str(GRID.rows), str(GRID.cols), str(GRID.cell[0])]
    # A process inherits the peak of the process that called exec, and a shell's is small.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", _PEAK, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    with av.open(str(clip)) as container:
        seconds = (container.duration or 0) / 1_000_000
    return Peak(clip_seconds=round(seconds, 1), megabytes=round(int(done.stdout) / 1024, 1))
