"""Training choices by numbers: short runs on the built-in model, each setting with three seeds.

python examples/choices.py FOLDER [--budget STEPS] [--clips N] [--workers N] [--table]

All runs train as long, on the same grids, from the base without an adapter. The toy world's judge
then reads clips of scenes that training never saw, drawn from a prompt (t2v) and from a prompt
with the first frame (i2v). FOLDER gets results.jsonl, a line for each run as it ends, and
choices.md, a table of what is there so far. The same command resumes what was stopped. The
comparisons that matter most come first. --table only writes the table again.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.bench.quality.cases import Case, Part, make_cases
from gridctl.caption import caption
from gridctl.files import write_text
from gridctl.machine.cores import num_cores
from gridctl.pack import pack
from gridctl.profile import Profile, load_profile
from gridctl.toyworld.dataset import write_clips

GRID = {"grid.rows": 3, "grid.cols": 3, "grid.cell": "64x64"}  # 144 tokens, a fast step
SEEDS = (0, 1, 2)
CLIPS, VALIDATION = 600, 16  # to train on and to validate on
PARTS: tuple[Part, ...] = ("t2v", "i2v")
CHANCE = 1000  # resamples for an interval


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A choice: its name, and the keys in which it differs from `BASELINE`."""

    name: str
    keys: dict[str, Any]


BASELINE = Setting(name="baseline", keys={})
SETTINGS = (
    BASELINE,
    Setting(name="temporal 0", keys={"train.temporal_weight": 0.0}),
    Setting(name="temporal 0.3", keys={"train.temporal_weight": 0.3}),
    Setting(name="keep 0.3", keys={"train.keep": 0.3}),
    Setting(name="rank 8", keys={"train.rank": 8}),
    Setting(name="rank 128", keys={"train.rank": 128}),
    Setting(name="wraps off", keys={"train.row_wraps": False}),
    Setting(name="serpentine", keys={"grid.order": "serpentine"}),
    Setting(name="keep 0.6", keys={"train.keep": 0.6}),
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run: one setting with one seed."""

    folder: Path
    setting: Setting
    seed: int
    budget: int
    clips: int

    @property
    def name(self) -> str:
        return f"{self.setting.name} {self.seed}"

    def profile(self, **more: Any) -> Profile:
        """The built-in profile with the setting's keys, and with `more` (`model__adapter=...`)."""
        keys = {
            **GRID,
            "train.data": data_folder(self.folder, self.setting),
            "train.output": self.folder / "runs" / f"{self.name.replace(' ', '-')}.safetensors",
            "train.steps": self.budget,
            "train.seed": self.seed,
            "train.rank": 32,
            "train.batch_size": 8,
            "train.warmup_steps": 20,
            "train.temporal_weight": 0.1,
            "train.caption_dropout": 0.1,  # classifier-free guidance needs it
            "train.checkpoint_every": 100_000,  # validation at the start and at the end
            "train.keep_checkpoints": 1,
            "generate.seed": 1000 * self.seed,  # other scenes and noise for each seed
            **self.setting.keys,
            **{key.replace("__", ".", 1): value for key, value in more.items()},
        }
        return load_profile("tiny", keys).profile


def data_folder(folder: Path, setting: Setting) -> Path:
    """The packed grids for a setting: one folder for each order of frames."""
    return folder / setting.keys.get("grid.order", "row-major")


def prepare(folder: Path) -> None:
    """Pack and caption the same clips for both orders."""
    for part, count, stream in (("train", CLIPS, 0), ("val", VALIDATION, 1)):
        write_clips(folder / "clips" / part, count=count, seed=11, num_frames=18, stream=stream)
    for setting in (BASELINE, next(s for s in SETTINGS if "grid.order" in s.keys)):
        packed = data_folder(folder, setting)
        profile = load_profile("tiny", {**GRID, **setting.keys, "pack.format": "png"}).profile
        pack([folder / "clips"], packed, profile)
        caption([packed])


def run(job: Job) -> dict[str, Any]:
    """Train and judge; returns the line of results.jsonl."""
    from gridctl.train import train

    result = train(job.profile())
    log = result.run_folder / "metrics.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    bands = entries[-1]["validation_bands"]
    seconds = [entry["seconds"] for entry in entries if entry["step"] > 1]  # 1 has the start
    row: dict[str, Any] = {
        "setting": job.setting.name,
        "seed": job.seed,
        "budget": job.budget,
        "base": float(np.mean([band["base"] for band in bands])),
        "temporal": float(np.mean([band["temporal"] for band in bands])),
        "bands": bands,
        "step_seconds": float(np.median(seconds)) if seconds else None,
        "takes": list(judged(job, result.adapter)),
    }
    shutil.rmtree(result.run_folder)
    return row


def judged(job: Job, adapter: Path) -> Iterator[dict[str, Any]]:
    """What the judge read of each clip that the adapter drew."""
    from gridctl.bench.quality.draw import draw_cases
    from gridctl.bench.quality.score import judge_take

    profile = job.profile(model__adapter=str(adapter))
    for part in PARTS:
        cases: Sequence[Case] = make_cases(part, job.clips, profile.generate.seed)
        for case, seed, frames in draw_cases(cases, profile):
            take = judge_take(case, frames, seed=seed)
            jump = take.measures.get("jump from the first frame")
            yield {
                "part": part,
                "index": case.index,
                **{what: take.right[what] for what in ("shape", "motion", "all")},
                "temporal_error": take.temporal_error,
                "jump": None if jump is None else jump[0] / max(jump[1], 1e-6),
            }


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The runs that are done."""
    path = folder / "results.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError):  # a kill leaves half a line
            rows.append(json.loads(line))
    return rows


def write_table(folder: Path) -> str:
    """Write choices.md: each setting's means, and its difference from the baseline."""
    rows = read_rows(folder)
    of = {s.name: [row for row in rows if row["setting"] == s.name] for s in SETTINGS}
    measures = (
        "base", "temporal", "t2v shape", "t2v motion", "t2v all", "t2v temporal_error",
        "i2v motion", "i2v all", "i2v jump",
    )  # fmt: skip
    lines = [
        "Mean over seeds; in brackets the difference from the baseline with the same seeds and its "
        "95 % interval, from resampling the clips (validation: the runs).",
        "",
        f"| setting | seeds | {' | '.join(measures)} |",
        "|---" * (len(measures) + 2) + "|",
    ]
    for name, own in of.items():
        if own:
            cells = [cell(measure, own, of[BASELINE.name]) for measure in measures]
            lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    write_text(folder / "choices.md", text)
    return text


def cell(measure: str, own: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> str:
    """A mean, and how far it is from the baseline's."""
    theirs = {row["seed"]: values_of(measure, row) for row in baseline}
    mine = {row["seed"]: values_of(measure, row) for row in own}
    text = f"{np.mean(np.concatenate(list(mine.values()))):.3f}"
    shared = [seed for seed in mine if seed in theirs and len(mine[seed]) == len(theirs[seed])]
    differences = [mine[seed] - theirs[seed] for seed in shared]
    if own is baseline or not differences:
        return text
    together = np.concatenate(differences)
    rng = np.random.default_rng(0)
    picked = rng.integers(len(together), size=(CHANCE, len(together)))
    low, high = np.quantile(together[picked].mean(axis=1), (0.025, 0.975))
    return f"{text} ({together.mean():+.3f}: {low:+.3f} to {high:+.3f})"


def values_of(measure: str, row: dict[str, Any]) -> Any:
    """One number for each clip of a run, in order; one in all for validation."""
    part, _, what = measure.partition(" ")
    if not what:
        return np.array([row[part]])
    takes = sorted((t for t in row["takes"] if t["part"] == part), key=lambda t: t["index"])
    return np.array([float(take[what] or 0) for take in takes])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", type=int, default=600, help="steps of each run (%(default)s)")
    parser.add_argument("--clips", type=int, default=32, help="judged for each part (%(default)s)")
    parser.add_argument("--workers", type=int, default=num_cores(), help="runs at once")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    args = parser.parse_args()
    if not args.table:
        work(args.folder.resolve(), args.budget, args.clips, args.workers)
    print(write_table(args.folder))


def work(folder: Path, budget: int, clips: int, workers: int) -> None:
    """Do the runs that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # a thread for each run: they are small
    prepare(folder)
    done = {(row["setting"], row["seed"]) for row in read_rows(folder) if row["budget"] == budget}
    jobs = [
        Job(folder=folder, setting=setting, seed=seed, budget=budget, clips=clips)
        for setting in SETTINGS
        for seed in SEEDS
        if (setting.name, seed) not in done
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            row = future.result()
            with (folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{row['setting']}, seed {row['seed']}: {row['step_seconds']} s a step", flush=True
            )
            write_table(folder)


if __name__ == "__main__":
    main()
