"""Scores: how often the judge reads what the prompt asked for, and how much frames jump.

A *step* is the mean absolute difference of two neighbouring frames, in 8-bit levels. A *jump* is
a step at a place where something could break: from a given frame to a drawn one, from one grid of
a long clip to the next, from the end of a grid's row to the next row.

Each result has pairs (step there, step beside it): for given frames the true clip's step at the
same place, otherwise the mean of the clip's other steps. The figure is a ratio of sums over all
results, so that clips that stand still count (their true step is 0) and none counts by a ratio of
its own. Its interval is a bootstrap over results.

A given frame is exact, and a drawn one has been decoded. So a perfect model would not reach 1: part
`vae` measures the jump of true clips of which all frames but the given one went through the VAE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gridctl.bench.quality.cases import LONG, Case, Part
from gridctl.generate.steps import window_starts
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.tiny.judge import Verdict, judge_clip, judge_picture

READ = ("shape", "color", "background")  # what every picture shows
_SHEET_FRAMES = 8  # of each clip
FROM_FIRST = ("i2v", "interpolate", "multiview")  # parts that are given the first frame
GRID_FRAMES = 24  # of the grids that a long clip is made of
_RESAMPLES = 2000  # of the bootstrap

Pair = tuple[float, float]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Count of results in which the judge read what the prompt asked for."""

    part: Part
    what: str
    right: int
    count: int

    @property
    def rate(self) -> float:
        """The share that was right, 0 to 1."""
        return self.right / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate."""
        z, n, p = 1.96, self.count, self.rate
        middle = p + z * z / (2 * n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = ((middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1))
        return max(0.0, low), min(1.0, high)


@dataclass(frozen=True)
class Figure:
    """A value that is not a share, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[Any], summary: Callable[[_Floats], float]) -> Figure:
        """`summary` of all results' values (N, ...), and its spread over resampled results."""
        rows = np.asarray(values, np.float64)
        chosen = np.random.default_rng(0).integers(len(rows), size=(_RESAMPLES, len(rows)))
        drawn = [summary(rows[some]) for some in chosen]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        return cls(summary(rows), float(low), float(high))


@dataclass(frozen=True, kw_only=True)
class Result:
    """The judge's readings of the frames that were drawn for a case.

    `read` has what was read by attribute, None where the judge could not say. `measures` are
    pairs of which the report gives the ratio of sums.
    """

    part: Part
    index: int
    prompt: str
    seed: int
    right: dict[str, bool] = field(default_factory=dict)
    read: dict[str, str | None] = field(default_factory=dict)
    view_angles: tuple[float, ...] | None = None
    temporal_error: float | None = None
    psnr_db: float | None = None
    measures: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def badness(self) -> tuple[int, float]:
        """Sorts the worst last: wrong readings first, then flicker."""
        return list(self.right.values()).count(False), self.temporal_error or 0.0

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON results them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Read the output of `to_json`."""
        measures = {what: (drawn, true) for what, (drawn, true) in data["measures"].items()}
        angles = data["view_angles"]
        return cls(
            **{**data, "measures": measures, "view_angles": None if angles is None else (*angles,)}
        )


def judge_case(case: Case, frames: Frames, *, seed: int, grid: Grid | None = None) -> Result:
    """Judge the frames (F, H, W, 3) that were drawn for a case, all in `grid` if it is given.

    Of a long clip the last frames are judged. For `vae` they are a true clip after the VAE: only
    how close they come is measured.
    """
    judged = frames[-GRID_FRAMES:] if case.part in LONG else frames
    verdict = judge_picture(frames[0]) if case.is_still else judge_clip(judged)
    common = Result(
        part=case.part,
        index=case.index,
        prompt=case.prompt,
        seed=seed,
        read=_readings(verdict),
        view_angles=verdict.view_angles,
        temporal_error=verdict.temporal_error,
    )
    measures = {} if case.is_still else measure_jumps(case, frames, grid)
    cell = (frames.shape[2], frames.shape[1])
    if case.part == "vae":
        psnr = _psnr(frames, case.truth(len(frames), cell))
        return replace(common, psnr_db=psnr, measures=measures)
    if case.part == "interpolate":
        truth = case.truth(len(frames), cell)
        error = np.abs(frames.astype(float) - truth).mean()
        still = np.abs(truth[:1].astype(float) - truth).mean()
        measures["distance from the true clip, a still's is 1"] = (float(error), float(still))
    if case.part == "restore":
        given = judge_clip(case.given(len(frames), cell)).temporal_error or 0.0
        measures["temporal error"] = (verdict.temporal_error or 0.0, given)
    return replace(common, right=_compare(case, verdict), measures=measures)


def _readings(verdict: Verdict) -> dict[str, str | None]:
    readings = {what: getattr(verdict, what) for what in (*READ, "style", "motion")}
    return {what: reading.value for what, reading in readings.items() if reading}


def _psnr(frames: Frames, truth: Frames) -> float:
    """Mean peak signal-to-noise ratio of the frames, in dB."""
    squared = np.square(frames.astype(np.float64) - truth).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(squared, 1e-3))))


def _compare(case: Case, verdict: Verdict) -> dict[str, bool]:
    """Whether the judge read what the prompt says, by attribute; `all` is what it is about."""
    scene = case.scene
    right = {what: getattr(verdict, what).value == getattr(scene, what) for what in READ}
    if scene.kind == "solid":
        right["turn order"] = bool(verdict.turn_in_order)
    elif not case.is_still:
        right["motion"] = verdict.motion is not None and verdict.motion.value == scene.motion
    right["all"] = all(right.values())
    if scene.kind == "shape":
        right["style"] = verdict.style.value == scene.style
    if case.part in LONG:  # a motion continues past the frame's edge, or turns round
        del right["motion"]
        right["all"] = all(right[what] for what in READ)
    if case.part == "edit":
        changed = case.changed
        kept = all(right[what] for what in (*READ, "motion") if what != changed)
        return {f"{changed} changed": right[changed], f"{changed}: the rest kept": kept}
    return right


def contact_sheet(results: Sequence[Result], clips: Sequence[Frames]) -> Image.Image:
    """A row for each result: some frames, then the prompt and the judge's readings."""
    height, width = clips[0].shape[1:3]
    shown = min(_SHEET_FRAMES, len(clips[0]))
    text = 520
    sheet = Image.new("RGB", (shown * width + text, len(results) * (height + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (result, frames) in enumerate(zip(results, clips, strict=True)):
        top = row * (height + 2)
        for column, index in enumerate(np.linspace(0, len(frames) - 1, shown).round()):
            sheet.paste(Image.fromarray(frames[int(index)]), (column * width, top))
        wrong = [what for what, right in result.right.items() if not right and what != "all"]
        lines = [
            f"{result.prompt}  (seed {result.seed})",
            "read: " + ", ".join(str(value) for value in result.read.values()),
            f"wrong: {', '.join(wrong) or 'nothing'}",
        ]
        draw.multiline_text((shown * width + 6, top + 4), "\n".join(lines), fill="black")
    return sheet


def ratio_of_sums(pairs: _Floats) -> float:
    """The sum of the first of each pair (N, 2) over that of the second; NaN over nothing."""
    top, bottom = pairs.sum(0)
    return float(top / bottom) if bottom > 0 else float("nan")


def steps_of(frames: Frames) -> _Floats:
    """(F-1,) How much each frame (F, H, W, 3) differs from the next, in 8-bit levels."""
    pairs = pairwise(frames.astype(float))
    return np.array([np.abs(after - before).mean() for before, after in pairs])


def measure_jumps(case: Case, frames: Frames, grid: Grid | None = None) -> dict[str, Pair]:
    """The pairs of a case's part, by name. `grid` is that of clips of one grid."""
    steps = steps_of(frames)
    if case.part in LONG:
        return {"jump at a seam, beside other steps": _beside(steps, _seams(len(frames)))}
    if case.part in ("t2v", "turn") and grid and grid.num_frames == len(frames):
        wraps = [frame for frame in range(len(steps)) if grid.is_row_wrap(frame)]
        return {"jump at a row's end, beside other steps": _beside(steps, wraps)} if wraps else {}
    truth = case.truth(len(frames), (frames.shape[2], frames.shape[1]))
    true = steps_of(truth)
    if case.part == "vae":
        decoded = steps_of(np.concatenate([truth[:1], frames[1:2]]))
        return {"jump from the first frame": (float(decoded[0]), float(true[0]))}
    measures: dict[str, Pair] = {}
    if case.part in FROM_FIRST:
        measures["jump from the first frame"] = (float(steps[0]), float(true[0]))
    if case.part == "interpolate":
        measures["jump to the last frame"] = (float(steps[-1]), float(true[-1]))
    return measures


def _beside(steps: _Floats, at: Sequence[int]) -> Pair:
    """(mean of the steps after frames `at`, mean of all others)."""
    return float(steps[list(at)].mean()), float(np.delete(steps, at).mean())


def _seams(count: int) -> list[int]:
    """The last frames of all grids but the last one: the frames after them are another grid's."""
    return [start + GRID_FRAMES - 1 for start in window_starts(count, GRID_FRAMES)[:-1]]
