"""Sampling: which frames of a clip go into which grid. Only numbers; nothing is decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gridctl.errors import GridctlError, counted
from gridctl.geometry import Grid
from gridctl.media.clip import Ordinals, Seconds, sample_indices
from gridctl.pack.options import PackOptions

_UNEVEN = 2.5  # times the usual step from frame to frame; less is rounding or a dropped frame


class SampleError(GridctlError):
    """A clip that gives no grid. The message starts with "has": put the clip's name before it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The frames of each grid of a clip, at most as many as it has cells."""

    windows: tuple[Ordinals, ...]
    shared: tuple[int, ...]
    """For each window, how many of its first frames are also the last of the window before."""
    count: int
    """How many frames there were to choose from, at the chosen stride or rate."""
    dropped: int
    """How many of these fill no grid and are left out."""
    fps: float
    """The rate at which the frames of these grids play in the clip's own time."""


def select_windows(
    times_seconds: Seconds,
    duration_seconds: float,
    rate: float,
    options: PackOptions,
    cuts: Sequence[int] = (),
) -> Selection:
    """The grids of a clip whose frames are shown at `times_seconds`, at a nominal `rate`.

    `duration_seconds` is when the last frame ends. `cuts` are the frames that begin a new scene.
    Raises SampleError for a clip that gives no grid, or that leaves frames over where the tail
    is an error.
    """
    settings = options.settings
    chosen = frames_in_range(times_seconds, options)
    end = _end(times_seconds, duration_seconds, chosen, options)
    size = options.grid.num_frames
    if options.mode == "uniform":
        picks = spread(times_seconds, chosen, size)
        if len(picks) < size and settings.tail != "pad":
            raise too_short(len(chosen), options.grid)
        fps = _rate(times_seconds[picks], end, rate)
        return Selection(windows=(picks,), shared=(0,), count=len(chosen), dropped=0, fps=fps)
    if options.fps is not None:
        fps, chosen = options.fps, resample(times_seconds, chosen, end, options.fps)
        scenes = [chosen]
    else:
        fps = _rate(times_seconds[chosen], end, rate)
        scenes = np.split(chosen, np.searchsorted(chosen, np.asarray(cuts, np.int64)))
    windows: list[Ordinals] = []
    shared: list[int] = []
    dropped = 0
    for scene in scenes:
        full, left = cut_windows(scene, options)
        windows.extend(full)
        shared.extend(settings.overlap if number else 0 for number in range(len(full)))
        dropped += left
    if not windows:
        raise too_short(len(chosen[:: settings.stride]), options.grid, scenes=len(scenes))
    if settings.max_grids is not None and len(windows) > settings.max_grids:
        windows, dropped = windows[: settings.max_grids], 0  # what follows was not asked for
    if dropped and settings.tail == "error":
        raise SampleError(
            f"has {counted(dropped, 'frame')} left over that fill no grid; "
            "use --tail drop to leave them out, or --tail pad."
        )
    return Selection(
        windows=tuple(windows),
        shared=tuple(shared[: len(windows)]),
        count=sum(len(scene[:: settings.stride]) for scene in scenes),
        dropped=dropped,
        fps=round(fps / settings.stride, 6),
    )


def frames_in_range(times_seconds: Seconds, options: PackOptions) -> Ordinals:
    """The numbers of the frames that are shown from the start on and before the end."""
    start, end = options.settings.start, options.settings.end
    # Rounding must not lose a frame: 0.1 seconds is frame 3 at 30 frames a second.
    first = int(np.searchsorted(times_seconds, start - 1e-6))
    last = len(times_seconds)
    if end is not None:
        last = int(np.searchsorted(times_seconds, end - 1e-6))
    if first >= last:
        raise SampleError(
            f"has no frame from {start:g} seconds on"
            + (f" and before {end:g}" if end is not None else "")
            + f"; its last one is at {times_seconds[-1]:.2f}. Use another --start or --end."
        )
    return np.arange(first, last, dtype=np.int64)


def spread(times_seconds: Seconds, chosen: Ordinals, wanted: int) -> Ordinals:
    """`wanted` of the `chosen` frames, evenly spread. All of them if there are fewer.

    Even in number is even in time, unless some frames are shown longer than others, as in slides
    and animations. Then these come as often as the clock shows them.
    """
    shown = times_seconds[chosen]
    steps = np.diff(shown)
    if len(chosen) <= wanted or steps.max() < _UNEVEN * np.median(steps):
        return chosen[list(sample_indices(len(chosen), wanted))]
    ticks = np.linspace(shown[0], shown[-1], wanted)
    on_screen: Ordinals = chosen[np.searchsorted(shown, ticks + 1e-6, side="right") - 1]
    return on_screen


def resample(times_seconds: Seconds, chosen: Ordinals, end: float, fps: float) -> Ordinals:
    """The frame that is on the screen at each tick of a clock with `fps` ticks a second.

    `end` is when the last of the `chosen` frames ends, in seconds.
    """
    shown = times_seconds[chosen]
    duration = end - shown[0]
    ticks = shown[0] + np.arange(max(1, math.ceil(duration * fps - 1e-6))) / fps
    on_screen: Ordinals = chosen[np.searchsorted(shown, ticks + 1e-6, side="right") - 1]
    return on_screen


def cut_windows(scene: Ordinals, options: PackOptions) -> tuple[list[Ordinals], int]:
    """Windows over the frames of a scene, and how many frames are left over after them."""
    strided = scene[:: options.settings.stride]
    size = options.grid.num_frames
    step = size - options.settings.overlap
    full = max(0, (len(strided) - size) // step + 1)
    windows = [strided[k * step : k * step + size] for k in range(full)]
    covered = (full - 1) * step + size if full else 0
    left = len(strided) - covered
    if left and options.settings.tail == "pad":
        return [*windows, strided[full * step :]], 0
    return windows, left


def too_short(count: int, grid: Grid, scenes: int = 1) -> SampleError:
    """The error for `count` frames, which do not fill a grid."""
    rows, cols = _largest_grid(count, grid)
    where = f" in {scenes} scenes, none of which fills a grid" if scenes > 1 else ""
    remedy = "--tail pad" if scenes > 1 else f"--rows {rows} --cols {cols}, or --tail pad"
    return SampleError(
        f"has {counted(count, 'frame')}{where}; "
        f"a {grid.rows}x{grid.cols} grid needs {grid.num_frames}. Use {remedy}."
    )


def _largest_grid(count: int, grid: Grid) -> tuple[int, int]:
    """(rows, cols) of the largest grid within `grid` that `count` frames fill, nearest in shape."""
    sizes = [(r, c) for r in range(1, grid.rows + 1) for c in range(1, grid.cols + 1)]
    return max(
        (size for size in sizes if size[0] * size[1] <= count),
        key=lambda size: (size[0] * size[1], -abs(size[0] / size[1] - grid.rows / grid.cols)),
    )


def _end(
    times_seconds: Seconds, duration_seconds: float, chosen: Ordinals, options: PackOptions
) -> float:
    """When the last of the `chosen` frames ends: at the next frame, or at --end if it is sooner."""
    following = int(chosen[-1]) + 1
    end = float(times_seconds[following]) if following < len(times_seconds) else duration_seconds
    return min(end, options.settings.end or math.inf)


def _rate(times: Seconds, end: float, fallback: float) -> float:
    """Frames per second at which the frames at `times` last until `end`."""
    if len(times) < 2:
        return fallback
    return round(len(times) / (end - float(times[0])), 6)
