"""How good generation is: clips and pictures of the toy world, scored by its judge.

Prompts describe combinations that training never saw, in random wordings. A combination has a
motion or a turn, so what single images show of one is not new. Everything is a function of
generate.seed.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gridctl.errors import UsageError
from gridctl.files import atomic_folder, refuse_overwrite
from gridctl.flux.base import open_base
from gridctl.flux.latents import decode_frames, encode_frames
from gridctl.generate import Request, render
from gridctl.generate.canvas import find_adapter
from gridctl.generate.tasks import image, t2v
from gridctl.media.write import write_clip
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.toyworld.captions import clip_caption, still_caption
from gridctl.toyworld.judge import Verdict, judge_clip, judge_picture
from gridctl.toyworld.render import render_clip
from gridctl.toyworld.scene import Kind, Scene, sample_scene

Part = Literal["t2v", "turn", "base", "image", "image+adapter", "vae"]
PARTS: tuple[Part, ...] = get_args(Part)
READ = ("shape", "color", "background")  # what every picture shows
SHOWN = 12  # clips on each contact sheet
_SHEET_FRAMES = 8  # of each clip
_Frames = npt.NDArray[np.uint8]


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
class Case:
    """A scene that training never saw, and a prompt that asks for it."""

    part: Part
    scene: Scene
    prompt: str

    @property
    def is_still(self) -> bool:
        return self.part in ("image", "image+adapter")


@dataclass(frozen=True, kw_only=True)
class Take:
    """What was drawn for a case, and what the judge read of it."""

    case: Case
    seed: int
    frames: _Frames
    right: dict[str, bool]
    verdict: Verdict

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
        """All but the frames."""
        return {
            "part": self.case.part,
            "prompt": self.case.prompt,
            "seed": self.seed,
            "right": self.right,
            "read": self.read,
            "view_angles": self.verdict.view_angles,
            "temporal_error": self.verdict.temporal_error,
        }


@dataclass(frozen=True, kw_only=True)
class QualityBench:
    """Scores, and figures that are not shares: decibels and 8-bit levels, medians."""

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

    t2v: clips of shapes; turn: full turns of solids; base: t2v without the adapter; image and
    image+adapter: single pictures without and with it; vae: renders through the VAE and back.
    `folder` gets quality.json, takes.jsonl with a line for each prompt, contact sheets of the
    first and of the worst takes of each part, and the worst clips. 550 keep the 95 % interval of
    a share of 0.85 within 3 points.

    Raises UsageError for a count below 1, InputError if `folder` exists without `force`.
    """
    if count < 1:
        raise UsageError(f"{count} prompts measure nothing; ask for at least 1.")
    refuse_overwrite(folder, force=force)
    progress = progress or silent
    scores: list[Score] = []
    figures: dict[str, float] = {}
    lines: list[str] = []
    with atomic_folder(folder, force=force) as temporary:
        for part in parts:
            report = _counted(progress, part)
            if part == "vae":
                figures |= _measure_vae(profile, count, report)
                continue
            tally: dict[str, int] = {}
            errors: list[float] = []
            first: list[Take] = []
            worst: list[Take] = []
            for take in _takes(part, profile, count, report):
                for what, right in take.right.items():
                    tally[what] = tally.get(what, 0) + right
                if take.verdict.temporal_error is not None:
                    errors.append(take.verdict.temporal_error)
                lines.append(json.dumps(take.to_json()))
                first += [take] if len(first) < SHOWN else []
                worst = sorted([*worst, take], key=lambda take: take.badness)[-SHOWN:]
            scores += [
                Score(part=part, what=what, right=right, count=count)
                for what, right in tally.items()
            ]
            if errors:
                figures[f"{part} temporal error"] = statistics.median(errors)
            _show(temporary / part, first, worst[::-1])
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
        (temporary / "takes.jsonl").write_text("".join(line + "\n" for line in lines))
    return result


def quality_data(result: QualityBench) -> dict[str, Any]:
    """`result` as JSON takes it, with rates and intervals."""
    rows = [
        {**asdict(score), "rate": score.rate, "interval": score.interval} for score in result.scores
    ]
    return {"about": result.about, "scores": rows, "figures": result.figures}


def _takes(part: Part, profile: Profile, count: int, progress: Progress) -> Iterator[Take]:
    """Draw and judge one part's prompts, one after the other."""
    cases = make_cases(part, count, profile.generate.seed)
    if part == "base":
        model = profile.model.model_copy(update={"adapter": "none"})
        profile = profile.model_copy(update={"model": model})
    request = Request(
        prompts=tuple(case.prompt for case in cases),
        output=Path("takes"),
        profile=profile,
        many=True,
    )
    drawing = (image if cases[0].is_still else t2v).prepare(request)
    if part == "image+adapter":
        drawing = replace(drawing, adapter=find_adapter(profile))
    drawn = render(drawing, progress=progress)
    for case, (shot, frames) in zip(cases, drawn, strict=True):
        yield judge_take(case, frames, seed=shot.seed)


def make_cases(part: Part, count: int, seed: int) -> list[Case]:
    """`count` cases of a part; the first ones are the same for any count."""
    kind: Kind = "solid" if part == "turn" else "shape"
    cases = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        scene = sample_scene(rng, kind=kind, held_out=True)
        word = still_caption if part in ("image", "image+adapter") else clip_caption
        cases.append(Case(part=part, scene=scene, prompt=word(scene, rng)))
    return cases


def judge_take(case: Case, frames: _Frames, *, seed: int) -> Take:
    """Judge the frames (F, H, W, 3) that were drawn for a case."""
    verdict = judge_picture(frames[0]) if case.is_still else judge_clip(frames)
    return Take(
        case=case,
        seed=seed,
        frames=frames,
        right=_compare(case.scene, verdict, still=case.is_still),
        verdict=verdict,
    )


def _compare(scene: Scene, verdict: Verdict, *, still: bool) -> dict[str, bool]:
    """What of the prompt the judge read, by attribute; `all` is what the prompt is about."""
    right = {what: getattr(verdict, what).value == getattr(scene, what) for what in READ}
    if scene.kind == "solid":
        right["turn order"] = bool(verdict.turn_in_order)
    elif not still:
        right["motion"] = verdict.motion is not None and verdict.motion.value == scene.motion
    right["all"] = all(right.values())
    if scene.kind == "shape":
        right["style"] = verdict.style.value == scene.style
    return right


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


def _show(stem: Path, first: list[Take], worst: list[Take]) -> None:
    """Contact sheets of both, and the worst ones as files."""
    for name, takes in (("first", first), ("worst", worst)):
        contact_sheet(takes).save(stem.with_name(f"{stem.name}-{name}.png"))
    for rank, take in enumerate(worst, start=1):
        if len(take.frames) > 1:
            write_clip(take.frames, stem.with_name(f"{stem.name}-worst") / f"{rank:02}.mp4", fps=8)


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


def _counted(progress: Progress, part: str) -> Progress:
    """The same progress, with the name of the part."""
    return lambda done, total, text: progress(done, total, f"{part}: {text}")
