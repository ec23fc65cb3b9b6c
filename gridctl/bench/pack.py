"""`gridctl bench pack`: packing compared with decoding, ffmpeg, and PNG frames with OpenCV.

Its peak memory is measured too, and the time of the parts that look at all clips at once.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from gridctl.bench.harness import Candidate, Report, Table, compare, run_command, timed
from gridctl.bench.sizes import PackSizes
from gridctl.dataset.folder import write_metadata
from gridctl.dataset.metadata import GridMetadata
from gridctl.geometry import Grid
from gridctl.media.images import Picture
from gridctl.media.write import write_clip
from gridctl.pack.frames import select_windows
from gridctl.pack.options import PackOptions
from gridctl.pack.sources import find_clips
from gridctl.profile import Profile
from gridctl.progress import Progress, silent

GRID = Grid(rows=4, cols=6, cell=(256, 256))
CLIP_FPS = 24
NAMED_FRAMES = 240  # of each clip that is only a name
GOP_SECONDS = 5  # time between key frames of the long clip


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
            Candidate(
                name="gridctl pack --sample windows",
                work=partial(_pack, sources, folder / "vidgrid", "--sample", "windows"),
            ),
            Candidate(name="decoding alone", work=partial(_decode, sources), target=1.15),
        ]
        if ffmpeg:
            windows.append(
                Candidate(
                    name="ffmpeg loop: crop, scale, tile",
                    work=partial(_ffmpeg, sources, folder / "ffmpeg"),
                    target=0.70,
                )
            )
        if ffmpeg and opencv:  # one run: it takes minutes, and the gap is far larger than noise
            windows.append(
                Candidate(
                    name="PNG frames, then OpenCV (once)",
                    work=partial(_opencv, sources, folder / "cv2"),
                    target=0.25,
                    once=True,
                )
            )
        uniform = [
            Candidate(name="gridctl pack", work=partial(_pack, [long], folder / "uniform")),
            Candidate(name="decoding alone", work=partial(_decode, [long]), target=0.15),
        ]
        comparisons = (
            compare("the clips", windows, repeats=repeats, progress=progress),
            compare("the long clip", uniform, repeats=repeats, progress=progress),
        )
        progress(0, 1, "peak memory")
        peaks = tuple(peak_memory(clip, folder / "memory") for clip in (sources[0], long))
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
        comparisons=comparisons,
        tables=(memory, time_names(clips=sizes.names, progress=progress)),
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


# ------------------------------------------------------------ candidates


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


def peak_memory(clip: Path, output: Path) -> tuple[float, float]:
    """Seconds of a clip, and the MB that packing all its windows takes in its largest process."""
    arguments = [str(clip), str(output), str(GRID.rows), str(GRID.cols), str(GRID.cell[0])]
    # A process inherits the peak of the process that called exec, and a shell's is small.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", _PEAK, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    with av.open(str(clip)) as container:
        seconds = (container.duration or 0) / 1_000_000
    return round(seconds, 1), round(int(done.stdout) / 1024, 1)


# ------------------------------------------------------------ many clips


def time_names(*, clips: int, progress: Progress | None = None) -> Table:
    """Time the parts of pack that look at all clips at once, on `clips` empty files.

    The last column is the time per clip over that with a tenth of the clips: 1 is linear.
    """
    progress = progress or silent
    with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as name:
        rows = []
        for number, (work, measure) in enumerate(
            (
                ("list clips", _list_clips),
                ("choose frames", _choose_frames),
                ("write metadata", _write_metadata),
            )
        ):
            progress(number, 3, work)
            tenth, whole = (measure(Path(name), count) for count in (clips // 10, clips))
            rows.append((work, round(whole, 4), round(growth(tenth, whole), 3)))
        progress(3, 3, "")
    columns = ("work", "seconds", "per clip, over a tenth")
    return Table(title=f"{clips:,} clips", columns=columns, rows=tuple(rows))


def growth(seconds_for_a_tenth: float, seconds: float) -> float:
    """Time per clip with all clips, over time per clip with a tenth of them."""
    return seconds / (10 * max(seconds_for_a_tenth, 1e-9))


def _list_clips(folder: Path, count: int) -> float:
    source = _touch(folder / f"clips-{count}", "video_{:06}_some_name.mp4", count)

    def work() -> None:
        find_clips([source], folder / "out", first_name="{}.jpg")

    return timed(work)


def _choose_frames(folder: Path, count: int) -> float:
    options = PackOptions.of(Profile())
    times = np.arange(NAMED_FRAMES) / CLIP_FPS

    def choose() -> None:
        for _ in range(count):
            select_windows(times, NAMED_FRAMES / CLIP_FPS, float(CLIP_FPS), options)

    return timed(choose)


def _write_metadata(folder: Path, count: int) -> float:
    grids = _touch(folder / f"grids-{count}", "video_{:06}_some_name.jpg", count)
    grid = Profile().grid.to_grid()
    times = tuple(float(k) for k in range(grid.num_frames))
    metadata = GridMetadata(
        grid=grid, source="clip.mp4", times_seconds=times, fps=1.0, num_frames=grid.num_frames
    ).to_json()
    known = {path: {"file_name": path.name, "text": None, **metadata} for path in grids.iterdir()}

    def work() -> None:
        write_metadata(grids, known)

    return timed(work)


def _touch(folder: Path, name: str, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / name.format(number)).touch()
    return folder
