"""Measuring the parts: results on disk, so that a stopped run loses nothing, and the report."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gridctl import __version__
from gridctl.bench.harness import Report, Table
from gridctl.bench.quality.cases import PARTS, Part, draw_cases, make_cases
from gridctl.bench.quality.score import (
    Figure,
    Pair,
    Result,
    Score,
    contact_sheet,
    judge_case,
    ratio_of_sums,
)
from gridctl.errors import InputError, UsageError
from gridctl.files import write_text
from gridctl.generate.job import find_adapter
from gridctl.generate.record import Weights
from gridctl.media.images import Frames
from gridctl.media.write import write_clip
from gridctl.profile import Profile, values_of
from gridctl.progress import Progress, silent

SHOWN = 12  # clips on each contact sheet
_SETTINGS = "bench-quality.json"  # a name that no other program uses
_RESULTS = "results.jsonl"
_WRITTEN = (_SETTINGS, _RESULTS, "quality.json", "frames", "*-first.png", "*-worst.png", "*-worst")
_NAMED = 3  # settings that an error names


@dataclass(frozen=True, kw_only=True)
class QualityResult:
    """Scores, and figures that are not shares: decibels, 8-bit levels and ratios."""

    about: str
    scores: tuple[Score, ...]
    figures: dict[str, Figure]
    folder: Path

    def report(self) -> Report:
        """The scores as percent with their interval, and the figures, as all benchmarks report."""
        rows = []
        for score in self.scores:
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
                for name, figure in self.figures.items()
            ),
        )
        tables = tuple(table for table in (scores, figures) if table.rows)
        return Report(bench="quality", about=self.about, tables=tables)


def bench_quality(
    profile: Profile,
    folder: Path,
    *,
    count: int = 550,
    parts: Sequence[Part] = PARTS,
    force: bool = False,
    progress: Progress | None = None,
) -> QualityResult:
    """Draw and judge `count` prompts in each of `parts`, with the profile's base and adapter.

    t2v: clips of shapes. turn: full turns of solids. base: t2v without the adapter. image and
    image+adapter: single pictures without and with it. vae: renders through the VAE and back.
    i2v, interpolate and multiview: clips around true frames. edit: a true clip changed in one
    attribute. restore: a clip with flicker and noise. long keyframes and long windows: t2v of 96
    frames, of which the last 24 are judged. `score` says how jumps are measured.

    `folder` gets quality.json, results.jsonl with a line for each prompt, contact sheets of the
    first and of the worst clips of each part, and the worst clips. With 550 the 95 % interval
    of a share of 0.85 is within 3 points.

    Lines are written as results come. A run in the same folder resumes: what it has is
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
        results = PartResults(folder, part)
        if more := results.indices.difference(range(count)):
            raise UsageError(
                f"{folder} has {max(more) + 1} prompts of {part}; ask for as many, or use another "
                "folder."
            )
        cases = make_cases(part, count, profile.generate.seed)
        new = [case for case in cases if case.index not in results.indices]
        done = count * number + len(results.indices)
        progress(done, total, part)
        for case, seed, frames in draw_cases(new, profile) if new else ():
            results.add(judge_case(case, frames, seed=seed, grid=grid), frames)
            done += 1
            progress(done, total, part)
        results.show()
        scores += results.scores()
        figures |= results.figures()
    drawn = profile.generate
    result = QualityResult(
        about=f"{count} prompts a part, held out of training, seed {drawn.seed}, "
        f"{drawn.steps} steps, stochastic above sigma {drawn.stochastic_min_sigma}, "
        f"clips averaged up to sigma {drawn.average_max_sigma}, "
        f"true_cfg_scale {drawn.true_cfg_scale} up to sigma {drawn.true_cfg_max_sigma}",
        scores=tuple(scores),
        figures=figures,
        folder=folder,
    )
    report = json.dumps(result.report().to_json(), indent=2)
    write_text(folder / "quality.json", report + "\n")
    return result


def _settings(profile: Profile) -> dict[str, Any]:
    """The settings that decide the results, by the keys that a user knows."""
    adapter = None if profile.model.adapter == "none" else find_adapter(profile)
    weights = Weights.of(profile, adapter)
    own = {
        key: value
        for key, value in values_of(profile)
        if key.partition(".")[0] in ("grid", "model", "memory", "generate")
    }
    own |= {"model.base": weights.base, "model.adapter": weights.adapter}
    return json.loads(json.dumps({"gridctl": __version__, **own}, default=str))  # type: ignore[no-any-return]


def open_folder(folder: Path, settings: Mapping[str, Any], *, force: bool) -> None:
    """Make `folder`, or check that what is in it was measured with the same settings.

    Raises InputError if it has other files or other settings. `force` removes
    what an earlier run wrote.
    """
    known = folder / _SETTINGS
    if folder.exists() and not known.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not a folder of bench quality; use another name.")
    if force and known.exists():
        for pattern in _WRITTEN:
            for path in folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    wanted = json.loads(json.dumps(settings))
    if not known.exists():
        write_text(known, json.dumps(wanted, indent=2) + "\n")
        return
    found = json.loads(known.read_text(encoding="utf-8"))
    changed = [
        f"{key} = {found.get(key)} (now {wanted.get(key)})"
        for key in {**wanted, **found}
        if found.get(key) != wanted.get(key)
    ]
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise InputError(
            f"{folder} was measured with {', '.join(changed[:_NAMED])}{more}; use the same "
            "settings to resume it, --force to start over, or another folder."
        )


class PartResults:
    """The results of one part. Those that the contact sheets show keep their frames on disk."""

    def __init__(self, folder: Path, part: Part) -> None:
        self._folder = folder
        self._part = part
        self._results = {result.index: result for result in _read(folder / _RESULTS, part)}

    @property
    def indices(self) -> frozenset[int]:
        """The cases that are done."""
        return frozenset(self._results)

    def add(self, result: Result, frames: Frames) -> None:
        """Write a result; its frames (F, H, W, 3) first, so that a line's frames are never missing.

        Frames that the contact sheets no longer show are removed.
        """
        before = self._shown()
        self._results[result.index] = result
        if result.index in (shown := self._shown()):
            path = self._frames_path(result.index)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, frames=frames)
        with (self._folder / _RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(result.to_json()) + "\n")
        for index in before - shown:
            self._frames_path(index).unlink(missing_ok=True)

    def scores(self) -> list[Score]:
        """Scores by attribute."""
        right: dict[str, list[bool]] = defaultdict(list)
        for result in self._in_order():
            for what, value in result.right.items():
                right[what].append(value)
        return [
            Score(part=self._part, what=what, right=sum(values), count=len(values))
            for what, values in right.items()
        ]

    def figures(self) -> dict[str, Figure]:
        """The mean PSNR, the median temporal error, and each measure's ratio of sums.

        A ratio over nothing, as of clips that all stand still, is left out.
        """
        results = self._in_order()
        found = {}
        if decibels := [result.psnr_db for result in results if result.psnr_db is not None]:
            found[f"{self._part} PSNR dB"] = Figure.of(decibels, statistics.fmean)
        if errors := [t.temporal_error for t in results if t.temporal_error is not None]:
            found[f"{self._part} temporal error"] = Figure.of(errors, statistics.median)
        measures: dict[str, list[Pair]] = defaultdict(list)
        for result in results:
            for what, pair in result.measures.items():
                measures[what].append(pair)
        for what, pairs in measures.items():
            if sum(true for _, true in pairs) > 0:
                found[f"{self._part} {what}, ratio"] = Figure.of(pairs, ratio_of_sums)
        return found

    def show(self) -> None:
        """Contact sheets of the first and the worst, and the worst ones as files."""
        stem = self._folder / self._part.replace(" ", "-")
        worst = self._worst()
        for name, results in (("first", self._in_order()[:SHOWN]), ("worst", worst)):
            clips = [self._frames(result) for result in results]
            contact_sheet(results, clips).save(stem.with_name(f"{stem.name}-{name}.png"))
        for rank, result in enumerate(worst, start=1):
            if len(frames := self._frames(result)) > 1:
                path = stem.with_name(f"{stem.name}-worst") / f"{rank:02}.mp4"
                write_clip(frames, path, fps=8, force=True)

    def _in_order(self) -> list[Result]:
        return [self._results[index] for index in sorted(self._results)]

    def _worst(self) -> list[Result]:
        return sorted(self._in_order(), key=lambda result: result.badness)[: -SHOWN - 1 : -1]

    def _shown(self) -> set[int]:
        return {result.index for result in (*self._in_order()[:SHOWN], *self._worst())}

    def _frames_path(self, index: int) -> Path:
        return self._folder / "frames" / self._part.replace(" ", "-") / f"{index:05}.npz"

    def _frames(self, result: Result) -> Frames:
        with np.load(self._frames_path(result.index)) as stored:
            frames: Frames = stored["frames"]
        return frames


def _read(path: Path, part: Part) -> Sequence[Result]:
    """The results of a part. Half a line at the end, from a kill or a full disk, is removed."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    found = map(json.loads, whole.decode().splitlines())
    return [Result.from_json(line) for line in found if line["part"] == part]
