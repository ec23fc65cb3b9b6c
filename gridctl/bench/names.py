"""How long pack takes to list clips, choose frames and write metadata, for ever more clips."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gridctl.bench.harness import Table
from gridctl.dataset.folder import write_metadata
from gridctl.dataset.metadata import GridMetadata
from gridctl.pack.frames import select_windows
from gridctl.pack.options import PackOptions
from gridctl.pack.sources import find_clips
from gridctl.profile import Profile
from gridctl.progress import Progress, silent

CLIP_FRAMES = 240
CLIP_FPS = 24


def bench_names(*, clips: int, progress: Progress | None = None) -> Table:
    """Time the parts of pack that look at all clips at once. The clips are empty files.

    The last column is the time per clip over that with a tenth of the clips: 1 is linear.
    """
    progress = progress or silent
    with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as name:
        rows = []
        for number, (work, measure) in enumerate(
            (("list clips", _list), ("choose frames", _choose), ("write metadata", _metadata))
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


def _list(folder: Path, count: int) -> float:
    source = _touch(folder / f"clips-{count}", "video_{:06}_some_name.mp4", count)
    return _seconds(lambda: find_clips([source], folder / "out", first_name="{}.jpg"))


def _choose(folder: Path, count: int) -> float:
    options = PackOptions.of(Profile())
    times = np.arange(CLIP_FRAMES) / CLIP_FPS

    def choose() -> None:
        for _ in range(count):
            select_windows(times, CLIP_FRAMES / CLIP_FPS, float(CLIP_FPS), options)

    return _seconds(choose)


def _metadata(folder: Path, count: int) -> float:
    grids = _touch(folder / f"grids-{count}", "video_{:06}_some_name.jpg", count)
    grid = Profile().grid.to_grid()
    times = tuple(float(k) for k in range(grid.num_frames))
    metadata = GridMetadata(
        grid=grid, source="clip.mp4", times_seconds=times, fps=1.0, num_frames=grid.num_frames
    ).to_json()
    known = {path: {"file_name": path.name, "text": None, **metadata} for path in grids.iterdir()}
    return _seconds(lambda: write_metadata(grids, known))


def _touch(folder: Path, name: str, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / name.format(number)).touch()
    return folder


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
