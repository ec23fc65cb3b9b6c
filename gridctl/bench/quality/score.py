"""Scores: what the judge reads of a take, and how often it is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from gridctl.bench.quality.cases import LONG, Case, Part
from gridctl.generate.windows import OVERLAP, window_starts
from gridctl.media.images import Frames
from gridctl.toyworld.judge import Verdict, judge_clip, judge_picture

READ = ("shape", "color", "background")  # what every picture shows
_FROM_FIRST = ("i2v", "interpolate", "multiview")  # parts that are given the first frame
_LAST = 24  # frames at the end of a long clip that are judged, and of the grids it is made of
_SHEET_FRAMES = 8  # of each clip


@dataclass(frozen=True, kw_only=True)
class Score:
    """How often the judge read what the prompt asked for."""

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


@dataclass(frozen=True, kw_only=True)
class Take:
    """What was drawn for a case, and what the judge read of it.

    `measures` are pairs (drawn, true or given) of which the report gives the ratio of means.
    """

    case: Case
    seed: int
    frames: Frames
    right: dict[str, bool]
    verdict: Verdict
    measures: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def badness(self) -> tuple[int, float]:
        """Sorts the worst last: wrong readings first, then flicker."""
        return list(self.right.values()).count(False), self.verdict.temporal_error or 0.0

    @property
    def read(self) -> dict[str, str | None]:
        """What the judge read, by attribute; None where it could not say."""
        readings = {what: getattr(self.verdict, what) for what in (*READ, "style", "motion")}
        return {what: reading.value for what, reading in readings.items() if reading}

    def to_json(self) -> dict[str, Any]:
        """Everything but the frames."""
        return {
            "part": self.case.part,
            "prompt": self.case.prompt,
            "seed": self.seed,
            "right": self.right,
            "read": self.read,
            "view_angles": self.verdict.view_angles,
            "temporal_error": self.verdict.temporal_error,
            "measures": self.measures,
        }


def judge_take(case: Case, frames: Frames, *, seed: int) -> Take:
    """Judge the frames (F, H, W, 3) that were drawn for a case."""
    judged = frames[-_LAST:] if case.part in LONG else frames
    verdict = judge_picture(frames[0]) if case.is_still else judge_clip(judged)
    right = _compare(case, verdict)
    measures = {}
    if case.part in LONG:
        measures["jump at a seam, beside other steps"] = _seams(frames, case.part)
    cell = (frames.shape[2], frames.shape[1])
    if case.part in _FROM_FIRST:
        truth = case.truth(len(frames), cell)
        measures["jump from the first frame"] = (_jump(frames, 0), _jump(truth, 0))
    if case.part == "interpolate":
        last = len(frames) - 2
        measures["jump to the last frame"] = (_jump(frames, last), _jump(truth, last))
        error = np.abs(frames.astype(float) - truth).mean()
        still = np.abs(truth[:1].astype(float) - truth).mean()
        measures["distance from the true clip, a still's is 1"] = (float(error), float(still))
    if case.part == "restore":
        given = judge_clip(case.given(len(frames), cell)).temporal_error or 0.0
        measures["temporal error"] = (verdict.temporal_error or 0.0, given)
    return Take(
        case=case, seed=seed, frames=frames, right=right, verdict=verdict, measures=measures
    )


def _compare(case: Case, verdict: Verdict) -> dict[str, bool]:
    """What of the prompt the judge read, by attribute; `all` is what the prompt is about."""
    scene = case.scene
    right = {what: getattr(verdict, what).value == getattr(scene, what) for what in READ}
    if scene.kind == "solid":
        right["turn order"] = bool(verdict.turn_in_order)
    elif not case.is_still:
        right["motion"] = verdict.motion is not None and verdict.motion.value == scene.motion
    right["all"] = all(right.values())
    if scene.kind == "shape":
        right["style"] = verdict.style.value == scene.style
    if case.part in LONG:  # a motion goes on past the frame's edge, or turns round
        del right["motion"]
        right["all"] = all(right[what] for what in READ)
    if case.part == "edit":
        changed = case.changed
        kept = all(right[what] for what in (*READ, "motion") if what != changed)
        return {f"{changed} changed": right[changed], f"{changed}: the rest kept": kept}
    return right


def _seams(frames: Frames, part: Part) -> tuple[float, float]:
    """(mean jump where a grid of `_LAST` frames follows another, mean jump elsewhere)."""
    if part == "long keyframes":
        seams = window_starts(len(frames), _LAST, 1)[1:]
    else:
        seams = list(range(_LAST - 1, len(frames) - 1, _LAST - OVERLAP))
    jumps = [_jump(frames, frame) for frame in range(len(frames) - 1)]
    others = [jump for frame, jump in enumerate(jumps) if frame not in seams]
    return fmean(jumps[frame] for frame in seams), fmean(others)


def _jump(frames: Frames, frame: int) -> float:
    """How much the next frame differs from this one: mean absolute difference, 8-bit levels."""
    return float(np.abs(frames[frame + 1].astype(float) - frames[frame]).mean())


def contact_sheet(takes: Sequence[Take]) -> Image.Image:
    """A row per take: some frames, and beside them the prompt and what the judge read."""
    height, width = takes[0].frames.shape[1:3]
    frames = min(_SHEET_FRAMES, len(takes[0].frames))
    text = 520
    sheet = Image.new("RGB", (frames * width + text, len(takes) * (height + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, take in enumerate(takes):
        top = row * (height + 2)
        for column, index in enumerate(np.linspace(0, len(take.frames) - 1, frames).round()):
            sheet.paste(Image.fromarray(take.frames[int(index)]), (column * width, top))
        wrong = [what for what, right in take.right.items() if not right and what != "all"]
        lines = [
            f"{take.case.prompt}  (seed {take.seed})",
            "read: " + ", ".join(str(value) for value in take.read.values()),
            f"wrong: {', '.join(wrong) or 'nothing'}",
        ]
        draw.multiline_text((frames * width + 6, top + 4), "\n".join(lines), fill="black")
    return sheet
