"""Training choices by numbers: short runs on the built-in model, each setting with three seeds.

python examples/choices.py FOLDER [--budget STEPS] [--clips N] [--workers N] [--seconds S] [--table]

All runs train for the same number of steps, on the same grids, from the base without an adapter.
The toy world's judge then reads clips of scenes that training never saw, drawn from a prompt (t2v)
and from a prompt with the first frame (i2v). FOLDER gets results.jsonl, a line for each run as it
ends, and choices.md, a table of what is there so far. The same command resumes what was stopped.
The comparisons that matter most come first. Each worker takes a core, and its share of the GPU if
there is one. --table only writes the table again.
"""

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.bench.quality import Part, draw_cases, judge_case, make_cases
from gridctl.caption import caption
from gridctl.files import write_text
from gridctl.machine.devices import num_cores, pick_device
from gridctl.pack import pack
from gridctl.profile import Profile, load_profile
from gridctl.tiny.dataset import write_clips

GRID = {"grid.rows": 3, "grid.cols": 3, "grid.cell": "64x64"}  # 144 tokens, a fast step
SEEDS = (0, 1, 2)
SHARES, CLIPS, VALIDATION = 30, 20, 16  # shares of the training clips, clips of each, validation
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
    """A run: one setting with one seed, not to be started after `until` (`time.time()`)."""

    folder: Path
    setting: Setting
    seed: int
    budget: int
    clips: int
    until: float

    @property
    def name(self) -> str:
        return f"{self.setting.name} {self.seed}"

    def profile(self, **more: Any) -> Profile:
        """The built-in profile with the setting's keys, and with `more` (`model__adapter=...`)."""
        keys = {
            **GRID,
            "memory.device": "auto",
            "memory.encode_batch": 72,  # frames of 64 pixels
            "memory.decode_batch": 72,
            "train.data": data_folder(self.folder, self.setting),
            "train.output": self.folder / "runs" / f"{self.name.replace(' ', '-')}.safetensors",
            "train.steps": self.budget,
            "train.seed": self.seed,
            "train.rank": 32,
            "train.batch_size": 8,
            "train.warmup_steps": 20,
            "train.temporal_weight": 0.1,
            "train.keep": 0.0,
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


def prepare(jobs: Sequence[Job], pool: Executor) -> None:
    """Pack and caption the same clips for both orders, and encode them."""
    from gridctl.train import prepare as fill_cache

    folder = jobs[0].folder
    clips = folder / "clips"
    shares = [clips / "train" / f"{share:02}" for share in range(SHARES)]
    counts = [*(CLIPS for _ in shares), VALIDATION]
    one_of_each = {data_folder(folder, job.setting): job for job in jobs}
    if not all(packed.exists() for packed in one_of_each):
        list(pool.map(write_share, [*shares, clips / "val"], counts, range(len(counts))))
    for packed, job in one_of_each.items():
        if not packed.exists():
            partial = packed.with_suffix(".partial")
            pack([clips], partial, job.profile(pack__format="png"))
            caption([partial])
            partial.rename(packed)
        fill_cache(job.profile())


def write_share(folder: Path, count: int, stream: int) -> None:
    """Write some of the clips; each stream has its own."""
    write_clips(folder, count=count, seed=11, num_frames=18, stream=stream)


def run(job: Job) -> dict[str, Any] | None:
    """Train and judge; returns the line of results.jsonl, None if it is too late to start."""
    if time.time() > job.until:
        return None
    from gridctl.train import train

    began = time.monotonic()
    result = train(job.profile())
    trained = time.monotonic()
    log = result.run_folder / "metrics.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    bands = entries[-1]["validation_bands"]
    seconds = [entry["seconds"] for entry in entries if entry["step"] > 1]  # 1 has the start
    readings = list(judged(job, result.adapter))
    row = {
        "setting": job.setting.name,
        "seed": job.seed,
        **run_facts(job.budget, job.clips),
        "base": float(np.mean([band["base"] for band in bands])),
        "temporal": float(np.mean([band["temporal"] for band in bands])),
        "bands": bands,
        "step_seconds": float(np.median(seconds)) if seconds else None,
        "train_seconds": trained - began,
        "judge_seconds": time.monotonic() - trained,
        "readings": readings,
    }
    shutil.rmtree(result.run_folder)
    return row


def run_facts(budget: int, clips: int) -> dict[str, Any]:
    """Facts that all runs of a table share. Devices round differently."""
    import torch

    device = pick_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"budget": budget, "clips": clips, "device": name}


def judged(job: Job, adapter: Path) -> Iterator[dict[str, Any]]:
    """Draw clips with the adapter; the judge's readings of each."""
    profile = job.profile(model__adapter=str(adapter))
    for part in PARTS:
        cases = make_cases(part, job.clips, profile.generate.seed)
        for case, seed, frames in draw_cases(cases, profile):
            result = judge_case(case, frames, seed=seed, grid=profile.grid.to_grid())
            # t2v: the jump at the end of a row; i2v: from the given frame
            (jump,) = result.measures.values()
            yield {
                "part": part,
                "index": case.index,
                **{what: result.right[what] for what in ("shape", "motion", "all")},
                "temporal_error": result.temporal_error,
                "jump": jump,
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
        "base", "temporal", "t2v shape", "t2v motion", "t2v all", "t2v temporal_error", "t2v jump",
        "i2v motion", "i2v all", "i2v jump",
    )  # fmt: skip
    lines = [
        "Mean over seeds; in brackets the difference from the baseline with the same seeds and its "
        "95 % interval, from resampling the clips (validation: the runs). A jump is a step between "
        "frames at the end of a row (t2v), beside the clip's other steps, or from the given frame "
        "(i2v), beside the true clip's: the ratio of sums over all clips.",
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
    text = f"{summary(np.concatenate(list(mine.values()))):.3f}"
    shared = [seed for seed in mine if seed in theirs and len(mine[seed]) == len(theirs[seed])]
    if own is baseline or not shared:
        return text
    a, b = (np.concatenate([values[seed] for seed in shared]) for values in (mine, theirs))
    picked = np.random.default_rng(0).integers(len(a), size=(CHANCE, len(a)))
    drawn = [summary(a[some]) - summary(b[some]) for some in picked]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return f"{text} ({summary(a) - summary(b):+.3f}: {low:+.3f} to {high:+.3f})"


def values_of(measure: str, row: dict[str, Any]) -> Any:
    """(N, 1) or (N, 2) A number or a pair for each clip, in order; (1, 1) for validation."""
    part, _, what = measure.partition(" ")
    if not what:
        return np.array([[row[part]]])
    clips = sorted((c for c in row["readings"] if c["part"] == part), key=lambda c: c["index"])
    return np.array([np.atleast_1d(clip[what] or 0) for clip in clips], float)


def summary(values: Any) -> float:
    """The mean of numbers (N, 1); the ratio of sums of pairs (N, 2)."""
    sums = values.sum(axis=0)
    return float(sums[0] / (len(values) if len(sums) == 1 else sums[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", type=int, default=600, help="steps of each run (%(default)s)")
    parser.add_argument("--clips", type=int, default=32, help="judged for each part (%(default)s)")
    parser.add_argument("--workers", type=int, default=num_cores(), help="runs at once")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run after that time")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    args = parser.parse_args()
    if not args.table:
        work(
            args.folder.resolve(),
            args.budget,
            args.clips,
            workers=args.workers,
            until=time.time() + args.seconds,
        )
    print(write_table(args.folder))


def work(folder: Path, budget: int, clips: int, *, workers: int, until: float) -> None:
    """Do the runs that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, facts = read_rows(folder), run_facts(budget, clips)
    others = [row for row in rows if {key: row[key] for key in facts} != facts]
    if others:
        found = ", ".join(f"{key} {others[0][key]}" for key in facts)
        sys.exit(f"{folder} has runs with {found}; choose another folder.")
    done = {(row["setting"], row["seed"]) for row in rows}
    jobs = [
        Job(folder=folder, setting=setting, seed=seed, budget=budget, clips=clips, until=until)
        for setting in SETTINGS
        for seed in SEEDS
        if (setting.name, seed) not in done
    ]
    if not jobs:
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # a thread for each run: they are small
    began = time.monotonic()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        prepare(jobs, pool)
        say(began, "the grids are packed and encoded")
        running = {pool.submit(run, job): job for job in jobs}
        for future in as_completed(running):
            name = running[future].name
            try:
                row = future.result()
            except Exception:  # the other runs continue
                traceback.print_exc()
                say(began, f"{name}: failed")
                continue
            if row is None:
                say(began, f"{name}: no time left")
                continue
            with (folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            timing = {key: row[key] for key in ("step_seconds", "train_seconds", "judge_seconds")}
            say(began, f"{name}: {timing}")
            write_table(folder)


def say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)


if __name__ == "__main__":
    main()
