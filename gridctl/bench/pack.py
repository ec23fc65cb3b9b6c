"""How long packing takes, next to decoding alone, an ffmpeg loop, and PNG frames with OpenCV."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from gridctl.bench.harness import Contestant, Report, Table, hold_contest
from gridctl.bench.names import bench_names
from gridctl.bench.process import run_command
from gridctl.geometry import Grid
from gridctl.media.images import Picture
from gridctl.media.write import write_clip
from gridctl.progress import Progress, silent

GRID = Grid(rows=4, cols=6, cell=(256, 256))
CLIP_FPS = 24
GOP_SECONDS = 5  # time between key frames of the long clip


@dataclass(frozen=True, kw_only=True)
class PackSizes:
    """How much is packed. `size` is (width, height); `names` empty clips are listed."""

    clips: int = 8
    frames: int = 390
    minutes: float = 40.0
    names: int = 100_000
    size: tuple[int, int] = (1280, 720)


QUICK = PackSizes(clips=1, frames=48, minutes=0.25, names=1000, size=(320, 192))


def bench_pack(
    sizes: PackSizes | None = None, *, repeats: int = 5, progress: Progress | None = None
) -> Report:
    """Pack H.264 clips that are made here, and a long one, `repeats` times.

    gridctl runs as the command that a user would run.
    """
    sizes, progress = sizes or PackSizes(), progress or silent
    notes = []
    ffmpeg = shutil.which("ffmpeg")
    opencv = importlib.util.find_spec("cv2")
    if not ffmpeg:
        notes.append("ffmpeg is not installed, so PyAV decodes instead: apt install ffmpeg.")
    if not opencv:
        notes.append("OpenCV is not installed, so it was not measured: "
                     "pip install opencv-python-headless.")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as name:
        folder = Path(name)
        sources = []
        for number in range(sizes.clips):
            progress(number, sizes.clips, "making clips")
            sources.append(make_clip(folder / "clips" / f"clip{number}.mp4", number, sizes))
        progress(0, 1, "making the long clip")
        long = make_long_clip(folder / "long.mp4", sizes)
        windows = [
            Contestant(
                name="gridctl pack --sample windows",
                work=partial(_pack, sources, folder / "vidgrid", "--sample", "windows"),
            ),
            Contestant(name="decoding alone", work=partial(_decode, sources), target=1.15),
        ]
        if ffmpeg:
            windows.append(
                Contestant(
                    name="ffmpeg loop: crop, scale, tile",
                    work=partial(_ffmpeg, sources, folder / "ffmpeg"),
                    target=0.70,
                )
            )
        if ffmpeg and opencv:  # one run: it takes minutes, and the gap is far larger than noise
            windows.append(
                Contestant(
                    name="PNG frames, then OpenCV (once)",
                    work=partial(_opencv, sources, folder / "cv2"),
                    target=0.25,
                    once=True,
                )
            )
        uniform = [
            Contestant(name="gridctl pack", work=partial(_pack, [long], folder / "uniform")),
            Contestant(name="decoding alone", work=partial(_decode, [long]), target=0.15),
        ]
        contests = (
            hold_contest("the clips", windows, repeats=repeats, progress=progress),
            hold_contest("the long clip", uniform, repeats=repeats, progress=progress),
        )
        progress(0, 1, "peak memory")
        peaks = tuple(_peak(clip, folder / "memory") for clip in (sources[0], long))
    width, height = sizes.size
    memory = Table(
        title="peak memory of a clip, in the process that takes the most",
        columns=("seconds of the clip", "MB"),
        rows=peaks,
    )
    return Report(
        bench="pack",
        about=f"{sizes.clips} H.264 clips of {sizes.frames} frames at {width}x{height}, and one of "
        f"{sizes.minutes:g} minutes with a key frame each {GOP_SECONDS} seconds, to {GRID}",
        contests=contests,
        tables=(memory, bench_names(clips=sizes.names, progress=progress)),
        notes=tuple(notes),
    )


# ------------------------------------------------------------ clips


def make_clip(path: Path, seed: int, sizes: PackSizes) -> Path:
    """Write an H.264 clip of a drifting, textured picture, which is real work for a decoder."""
    write_clip(_drift(seed, sizes.frames, sizes.size), path, fps=CLIP_FPS, crf=20)
    return path


def make_long_clip(path: Path, sizes: PackSizes) -> Path:
    """Write a clip of that length. At most 20 seconds are encoded, and their packets repeat."""
    frames = round(sizes.minutes * 60 * CLIP_FPS)
    gop = GOP_SECONDS * CLIP_FPS
    unit = min(frames, 4 * gop)
    part = path.with_name(f"part-{path.name}")
    options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", "crf": "20"}
    options["preset"] = "fast"
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=CLIP_FPS)
        stream.width, stream.height = sizes.size
        stream.pix_fmt = "yuv420p"
        stream.options = options
        for picture in _drift(99, unit, sizes.size):
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


def _drift(seed: int, frames: int, size: tuple[int, int]) -> Iterator[Picture]:
    width, height = size
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    picture = smooth ^ random.integers(0, 8, (height, width, 3), dtype=np.uint8)
    for frame in range(frames):
        yield np.roll(picture, (2 * frame, 5 * frame), axis=(0, 1))


# ------------------------------------------------------------ contestants


def _pack(sources: Sequence[Path], output: Path, *flags: str) -> None:
    command = [sys.executable, "-m", "gridctl", "pack", "--force", "--quiet", "-o", str(output)]
    command += ["--rows", str(GRID.rows), "--cols", str(GRID.cols), "--cell", str(GRID.cell[0])]
    run_command([*command, *flags, "--", *map(str, sources)])


def _decode(sources: Sequence[Path]) -> None:
    for source in sources:
        if shutil.which("ffmpeg"):
            run_command(
                ["ffmpeg", "-v", "error", "-i", str(source), "-map", "0:v", "-f", "null", "-"]
            )
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
        run_command(command)


def _opencv(sources: Sequence[Path], output: Path) -> None:
    """The usual script: ffmpeg writes PNG frames, OpenCV reads, scales and tiles them."""
    import cv2  # the benchmark says so where it is not installed

    width, height = GRID.cell
    output.mkdir(exist_ok=True)
    for source in sources:
        frames = output / source.stem
        frames.mkdir()
        run_command(["ffmpeg", "-v", "error", "-i", str(source), str(frames / "frame_%05d.png")])
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


def _peak(clip: Path, output: Path) -> tuple[float, float]:
    arguments = [str(clip), str(output), str(GRID.rows), str(GRID.cols), str(GRID.cell[0])]
    # A process inherits the peak of the process that called exec, and a shell's is small.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", _PEAK, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    with av.open(str(clip)) as container:
        seconds = (container.duration or 0) / 1_000_000
    return round(seconds, 1), round(int(done.stdout) / 1024, 1)
