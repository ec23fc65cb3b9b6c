"""Measuring the parts, and the report."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.bench.quality.cases import PARTS, Part, make_cases
from gridctl.bench.quality.draw import draw_cases
from gridctl.bench.quality.score import Score, Take, contact_sheet, judge_take
from gridctl.errors import UsageError
from gridctl.files import atomic_folder, refuse_overwrite
from gridctl.flux.base import open_base
from gridctl.flux.latents import decode_frames, encode_frames
from gridctl.media.write import write_clip
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.toyworld.judge import judge_clip
from gridctl.toyworld.render import render_clip

SHOWN = 12  # clips on each contact sheet


@dataclass(frozen=True, kw_only=True)
class QualityBench:
    """Scores, and figures that are not shares: decibels, 8-bit levels and ratios."""

    about: str
    scores: tuple[Score, ...]
    figures: dict[str, float]
    folder: Path


def bench_quality(
    profile: Profile,
    folder: Path,
    *,
    count: int = 550,
    parts: Sequence[Part] = PARTS,
    force: bool = False,
    progress: Progress | None = None,
) -> QualityBench:
    """Draw and judge `count` prompts in each of `parts`, with the profile's base and adapter.

    t2v: clips of shapes. turn: full turns of solids. base: t2v without the adapter. image and
    image+adapter: single pictures without and with it. vae: renders through the VAE and back.
    i2v, interpolate and multiview: clips around true frames. edit: a true clip changed in one
    attribute. restore: a clip with flicker and noise. long keyframes and long windows: t2v of 96
    frames, of which the last 24 are judged.

    `folder` gets quality.json, takes.jsonl with a line for each prompt, contact sheets of the
    first and of the worst takes of each part, and the worst clips. With 550 the 95 % interval
    of a share of 0.85 is within 3 points.

    Raises UsageError for a count below 1, InputError if `folder` exists without `force`.
    """
    if count < 1:
        raise UsageError(f"{count} prompts measure nothing; ask for at least 1.")
    refuse_overwrite(folder, force=force)
    progress = progress or silent
    scores: list[Score] = []
    figures: dict[str, float] = {}
    with atomic_folder(folder, force=force) as temporary:
        for part in parts:
            report = _counted(progress, part)
            if part == "vae":
                figures |= _measure_vae(profile, count, report)
                continue
            takes = _Takes(part, temporary)
            cases = make_cases(part, count, profile.generate.seed)
            for case, shot, frames in draw_cases(cases, profile, report):
                takes.add(judge_take(case, frames, seed=shot.seed))
            scores += takes.scores()
            figures |= takes.figures()
            takes.show()
        drawn = profile.generate
        result = QualityBench(
            about=f"{count} prompts a part, held out of training, seed {drawn.seed}, "
            f"{drawn.steps} steps, stochastic above sigma {drawn.stochastic_min_sigma}, "
            f"clips averaged up to sigma {drawn.average_max_sigma}, "
            f"true_cfg_scale {drawn.true_cfg_scale} up to sigma {drawn.true_cfg_max_sigma}",
            scores=tuple(scores),
            figures=figures,
            folder=folder,
        )
        text = json.dumps(quality_data(result), indent=2)
        (temporary / "quality.json").write_text(text + "\n")
    return result


def quality_data(result: QualityBench) -> dict[str, Any]:
    """`result` as JSON takes it, with rates and intervals."""
    rows = [
        {**asdict(score), "rate": score.rate, "interval": score.interval} for score in result.scores
    ]
    return {"about": result.about, "scores": rows, "figures": result.figures}


class _Takes:
    """The takes of one part, counted as they come; only the shown ones keep their frames."""

    def __init__(self, part: Part, folder: Path) -> None:
        self._part = part
        self._folder = folder
        self._right: dict[str, list[bool]] = defaultdict(list)
        self._measures: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._errors: list[float] = []
        self._first: list[Take] = []
        self._worst: list[Take] = []

    def add(self, take: Take) -> None:
        for what, right in take.right.items():
            self._right[what].append(right)
        for what, pair in take.measures.items():
            self._measures[what].append(pair)
        if take.verdict.temporal_error is not None:
            self._errors.append(take.verdict.temporal_error)
        with (self._folder / "takes.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(take.to_json()) + "\n")
        if len(self._first) < SHOWN:
            self._first.append(take)
        self._worst = sorted([*self._worst, take], key=lambda take: take.badness)[-SHOWN:]

    def scores(self) -> list[Score]:
        return [
            Score(part=self._part, what=what, right=sum(right), count=len(right))
            for what, right in self._right.items()
        ]

    def figures(self) -> dict[str, float]:
        """The median temporal error, and each measure's ratio of means."""
        found = {}
        if self._errors:
            found[f"{self._part} temporal error"] = statistics.median(self._errors)
        for what, pairs in self._measures.items():
            drawn, true = (statistics.fmean(column) for column in zip(*pairs, strict=True))
            found[f"{self._part} {what}, ratio"] = drawn / max(true, 1e-9)
        return found

    def show(self) -> None:
        """Contact sheets of the first and the worst, and the worst ones as files."""
        stem = self._folder / self._part.replace(" ", "-")
        worst = self._worst[::-1]
        for name, takes in (("first", self._first), ("worst", worst)):
            contact_sheet(takes).save(stem.with_name(f"{stem.name}-{name}.png"))
        for rank, take in enumerate(worst, start=1):
            if len(take.frames) > 1:
                path = stem.with_name(f"{stem.name}-worst") / f"{rank:02}.mp4"
                write_clip(take.frames, path, fps=8)


def _measure_vae(profile: Profile, count: int, progress: Progress) -> dict[str, float]:
    """PSNR in dB of a frame's round trip, and the temporal error of real clips after it."""
    base = open_base(profile)
    grid = profile.grid.to_grid()
    batch = profile.memory.decode_batch
    errors, decibels = [], []
    cases = make_cases("t2v", count, profile.generate.seed)
    with base.vae() as vae:
        for done, case in enumerate(cases):
            progress(done, count, "round trip")
            frames = render_clip(case.scene, grid.num_frames, grid.cell)
            back = decode_frames(vae, encode_frames(vae, frames, batch=batch), batch=batch)
            squared = np.square(back.astype(np.float64) - frames).mean((1, 2, 3))
            decibels.append(float(np.mean(10 * np.log10(255**2 / np.maximum(squared, 1e-3)))))
            errors.append(judge_clip(back).temporal_error or 0.0)
    return {
        "vae PSNR dB": statistics.fmean(decibels),
        "vae temporal error": statistics.median(errors),
    }


def _counted(progress: Progress, part: str) -> Progress:
    """The same progress, with the name of the part."""
    return lambda done, total, text: progress(done, total, f"{part}: {text}")
