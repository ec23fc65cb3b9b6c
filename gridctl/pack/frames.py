"""Frame sampling: which frames of a clip go into which grid, and where its scenes change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gridctl.errors import GridctlError, counted
from gridctl.geometry import Grid
from gridctl.media.clip import Clip, Ordinals, Seconds, sample_indices
from gridctl.media.fit import Fit
from gridctl.pack.options import PackOptions

_UNEVEN = 2.5  # times the usual step from frame to frame; less is rounding or a dropped frame
# Why not a library for scenes: PySceneDetect decodes the clip once more, through OpenCV. Here
# the frames come from the decoder that packs them.
_THUMBNAIL_SIDE = 32  # pixels
_LEAST_CHANGE = 12.0  # mean change of a thumbnail, of 255; less is not a cut
_TIMES_ITS_NEIGHBOURS = 3.0  # a cut changes more than the frames around it, by this factor
_REACH = 3  # how many frames on each side are around it


class SelectionError(GridctlError):
    """A clip that gives no grid. The message starts with "has": put the clip's name before it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The frames of each grid of a clip, at most as many as it has cells."""

    windows: tuple[Ordinals, ...]
    shared: tuple[int, ...]
    """For each window, how many of its first frames are also the last of the window before."""
    count: int
    """Number of frames to choose from, at the chosen stride or rate."""
    dropped: int
    """Number of these that fill no grid and are left out."""
    fps: float
    """The rate at which the frames of these grids play in the clip's own time."""


def select_windows(
    times_seconds: Seconds,
    duration_seconds: float,
    rate: float,
    options: PackOptions,
    cuts: Sequence[int] = (),
) -> Selection:
    """Choose the frames of each grid. A clip shows frames at `times_seconds`, nominally at `rate`.

    `duration_seconds` is when the last frame ends. `cuts` are the frames that begin a new scene.
    Raises SelectionError for a clip that gives no grid, or that leaves frames over where the tail
    is an error.
    """
    settings = options.settings
    chosen = frames_in_range(times_seconds, options)
    after = int(chosen[-1]) + 1
    end = float(times_seconds[after]) if after < len(times_seconds) else duration_seconds
    end = min(end, settings.end or math.inf)  # when the last chosen frame ends
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
        raise SelectionError(
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
    """Numbers of the frames that are shown from the start on and before the end."""
    start, end = options.settings.start, options.settings.end
    # Rounding must not lose a frame: 0.1 seconds is frame 3 at 30 frames a second.
    first = int(np.searchsorted(times_seconds, start - 1e-6))
    last = len(times_seconds)
    if end is not None:
        last = int(np.searchsorted(times_seconds, end - 1e-6))
    if first >= last:
        raise SelectionError(
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
    return _on_screen(chosen, shown, np.linspace(shown[0], shown[-1], wanted))


def resample(times_seconds: Seconds, chosen: Ordinals, end: float, fps: float) -> Ordinals:
    """The frame that is on the screen at each tick of a clock with `fps` ticks a second.

    `end` is when the last of the `chosen` frames ends, in seconds.
    """
    shown = times_seconds[chosen]
    count = max(1, math.ceil((end - shown[0]) * fps - 1e-6))
    return _on_screen(chosen, shown, shown[0] + np.arange(count) / fps)


def _on_screen(chosen: Ordinals, shown: Seconds, ticks: Seconds) -> Ordinals:
    found: Ordinals = chosen[np.searchsorted(shown, ticks + 1e-6, side="right") - 1]
    return found


def cut_windows(scene: Ordinals, options: PackOptions) -> tuple[list[Ordinals], int]:
    """Windows over the frames of a scene, and the number of frames that they leave over."""
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


def too_short(count: int, grid: Grid, scenes: int = 1) -> SelectionError:
    """The error for `count` frames, which do not fill a grid."""
    # The largest grid that they fill, nearest in shape.
    sizes = [(r, c) for r in range(1, grid.rows + 1) for c in range(1, grid.cols + 1)]
    rows, cols = max(
        (size for size in sizes if size[0] * size[1] <= count),
        key=lambda size: (size[0] * size[1], -abs(size[0] / size[1] - grid.rows / grid.cols)),
    )
    where = f" in {scenes} scenes, none of which fills a grid" if scenes > 1 else ""
    remedy = "--tail pad" if scenes > 1 else f"--rows {rows} --cols {cols}, or --tail pad"
    return SelectionError(
        f"has {counted(count, 'frame')}{where}; "
        f"a {grid.rows}x{grid.cols} grid needs {grid.num_frames}. Use {remedy}."
    )


def _rate(times: Seconds, end: float, fallback: float) -> float:
    """Frames per second at which the frames at `times` last until `end`."""
    if len(times) < 2:
        return fallback
    return round(len(times) / (end - float(times[0])), 6)


def find_cuts(clip: Clip, frames: Ordinals) -> list[int]:
    """Find which of `frames` (frame numbers of `clip`) begin a scene. Decodes all of them."""
    fit = Fit(cell=(_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), mode="stretch")
    changes = np.zeros(len(frames), np.float32)
    before: npt.NDArray[np.int16] | None = None
    for number, picture in enumerate(clip.cells(frames, fit)):
        now = picture.astype(np.int16)
        if before is not None:
            changes[number] = np.abs(now - before).mean()
        before = now
    return [int(frames[number]) for number in cut_positions(changes)]


def cut_positions(changes: npt.NDArray[np.float32]) -> list[int]:
    """Positions at which `changes` from frame to frame stand out from those around them.

    A pan or a shaking camera changes every frame a lot, a cut only one. A flash changes two
    frames in a row and is not a cut. A shot may be only a few frames long: then the larger cut,
    which is found first, does not count as around the other, unless they are adjacent.
    """
    cuts: set[int] = set()
    candidates = np.flatnonzero(changes >= _LEAST_CHANGE)
    for at in map(int, candidates[np.argsort(-changes[candidates], kind="stable")]):
        around = [
            changes[near]
            for near in range(max(0, at - _REACH), min(len(changes), at + _REACH + 1))
            if near != at and (near not in cuts or abs(near - at) == 1)
        ]
        if changes[at] >= _TIMES_ITS_NEIGHBOURS * max(around, default=0.0):
            cuts.add(at)
    return sorted(cuts)
