"""Measuring the parts, and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from gridctl import __version__
from gridctl.bench.harness import Report, Table
from gridctl.bench.quality.cases import PARTS, Part, make_cases
from gridctl.bench.quality.draw import draw_cases
from gridctl.bench.quality.measures import Figure
from gridctl.bench.quality.score import Score, judge_take
from gridctl.bench.quality.takes import Takes, open_folder
from gridctl.errors import UsageError
from gridctl.files import write_text
from gridctl.generate.canvas import find_adapter
from gridctl.generate.making import Weights
from gridctl.profile import Profile, values_of
from gridctl.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class QualityBench:
    """Scores, and figures that are not shares: decibels, 8-bit levels and ratios."""

    about: str
    scores: tuple[Score, ...]
    figures: dict[str, Figure]
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
    frames, of which the last 24 are judged. `measures` says how jumps are measured.

    `folder` gets quality.json, takes.jsonl with a line for each prompt, contact sheets of the
    first and of the worst takes of each part, and the worst clips. With 550 the 95 % interval
    of a share of 0.85 is within 3 points.

    Lines are written as takes are judged. A run in the same folder resumes: what it has is
    skipped, and `count` may grow. `force` starts over.

    Raises UsageError for a count below 1 or below what `folder` has, InputError if it was measured
    with other settings or has other files.
    """
    if count < 1:
        raise UsageError(f"{count} prompts measure nothing; ask for at least 1.")
    progress = progress or silent
    open_folder(folder, _settings(profile), force=force)
    grid = profile.grid.to_grid()
    total, scores, figures = count * len(parts), list[Score](), dict[str, Figure]()
    for number, part in enumerate(parts):
        takes = Takes(folder, part)
        if more := takes.indices.difference(range(count)):
            raise UsageError(
                f"{folder} has {max(more) + 1} prompts of {part}; ask for as many, or use another "
                "folder."
            )
        cases = make_cases(part, count, profile.generate.seed)
        new = [case for case in cases if case.index not in takes.indices]
        done = count * number + len(takes.indices)
        progress(done, total, part)
        for case, seed, frames in draw_cases(new, profile) if new else ():
            takes.add(judge_take(case, frames, seed=seed, grid=grid), frames)
            done += 1
            progress(done, total, part)
        takes.show()
        scores += takes.scores()
        figures |= takes.figures()
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
    report = json.dumps(quality_report(result).to_json(), indent=2)
    write_text(folder / "quality.json", report + "\n")
    return result


def _settings(profile: Profile) -> dict[str, Any]:
    """What decides the takes of a profile, by the keys that a user knows."""
    adapter = None if profile.model.adapter == "none" else find_adapter(profile)
    weights = Weights.of(profile, adapter)
    own = {
        key: value
        for key, value in values_of(profile)
        if key.partition(".")[0] in ("grid", "model", "memory", "generate")
    }
    own |= {"model.base": weights.base, "model.adapter": weights.adapter}
    return json.loads(json.dumps({"gridctl": __version__, **own}, default=str))  # type: ignore[no-any-return]


def quality_report(result: QualityBench) -> Report:
    """The scores as percent with their interval, and the figures, as all benchmarks report."""
    rows = []
    for score in result.scores:
        shares = (round(100 * share, 1) for share in (score.rate, *score.interval))
        rows.append((score.part, score.what, *shares, score.right, score.count))
    scores = Table(
        title="what the judge read as the prompt asked, with the 95 % interval",
        columns=("part", "what", "right %", "from %", "to %", "right", "prompts"),
        rows=tuple(rows),
        bar="right %",
        labels=2,
        spread=("from %", "to %"),
    )
    figures = Table(
        title="figures that are not shares, with the 95 % interval",
        columns=("figure", "value", "from", "to"),
        rows=tuple(
            (name, *(round(value, 3) for value in astuple(figure)))
            for name, figure in result.figures.items()
        ),
    )
    tables = tuple(table for table in (scores, figures) if table.rows)
    return Report(bench="quality", about=result.about, tables=tables)
