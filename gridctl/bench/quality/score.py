"""Scores: what the judge reads of a take, and how often it is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from gridctl.bench.quality.cases import LONG, Case, Part
from gridctl.bench.quality.measures import GRID_FRAMES, measure_jumps
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.tiny.judge import Verdict, judge_clip, judge_picture

READ = ("shape", "color", "background")  # what every picture shows
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
    """What the judge read of the frames that were drawn for a case.

    `read` has what was read by attribute, None where the judge could not say. `measures` are
    pairs of which the report gives the ratio of sums (`measures`).
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
        """All fields, as JSON takes them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Take:
        """What `to_json` gave."""
        measures = {what: (drawn, true) for what, (drawn, true) in data["measures"].items()}
        angles = data["view_angles"]
        return cls(
            **{**data, "measures": measures, "view_angles": None if angles is None else (*angles,)}
        )


def judge_take(case: Case, frames: Frames, *, seed: int, grid: Grid | None = None) -> Take:
    """Judge the frames (F, H, W, 3) that were drawn for a case, all in `grid` if it is given.

    Of a long clip the last frames are judged. For `vae` they are a true clip after the VAE: only
    how close they come is measured.
    """
    judged = frames[-GRID_FRAMES:] if case.part in LONG else frames
    verdict = judge_picture(frames[0]) if case.is_still else judge_clip(judged)
    common = Take(
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


def contact_sheet(takes: Sequence[Take], clips: Sequence[Frames]) -> Image.Image:
    """A row per take: some of its frames, and beside them the prompt and what the judge read."""
    height, width = clips[0].shape[1:3]
    shown = min(_SHEET_FRAMES, len(clips[0]))
    text = 520
    sheet = Image.new("RGB", (shown * width + text, len(takes) * (height + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (take, frames) in enumerate(zip(takes, clips, strict=True)):
        top = row * (height + 2)
        for column, index in enumerate(np.linspace(0, len(frames) - 1, shown).round()):
            sheet.paste(Image.fromarray(frames[int(index)]), (column * width, top))
        wrong = [what for what, right in take.right.items() if not right and what != "all"]
        lines = [
            f"{take.prompt}  (seed {take.seed})",
            "read: " + ", ".join(str(value) for value in take.read.values()),
            f"wrong: {', '.join(wrong) or 'nothing'}",
        ]
        draw.multiline_text((shown * width + 6, top + 4), "\n".join(lines), fill="black")
    return sheet
