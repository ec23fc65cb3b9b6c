"""What is run on the card, each job in a process of its own under its memory cap."""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.bench.gpu.meter import (
    Phases,
    StepTimer,
    allocated_gib,
    allocator,
    alone,
    append_row,
    cap_memory,
    peak_memory,
    reset_peak,
)
from gridctl.bench.gpu.speed import speed
from gridctl.machine.devices import grow_segments
from gridctl.machine.quiet import quiet_libraries
from gridctl.profile import Profile, load_profile
from gridctl.progress import silent

PROMPT = "a red circle moves to the right on a white background"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One process: what it does, with which profile, under which cap.

    `seconds` is what it takes at most on a Hopper card; a job with less time left is not begun.
    `until` is a file: once it is there, the process is killed.
    """

    name: str
    kind: str
    profile: str
    overrides: Mapping[str, Any]
    work: Path
    results: Path
    cap_gib: float | None
    seconds: float
    until: str | None = None
    expandable: bool = True

    @property
    def lock(self) -> Path:
        return self.work / "timing.lock"

    def load(self) -> Profile:
        """The profile with the overrides."""
        return load_profile(self.profile, dict(self.overrides)).profile


def planned_gib(job: Job) -> float:
    """GiB that the planner expects a training job to allocate at most."""
    from gridctl.models.base import open_base
    from gridctl.models.memory import training_memory

    profile = job.load()
    return round(training_memory(profile, open_base(profile).transformer_config).training, 2)


def where_it_was(job: Job) -> str:
    """The innermost line of gridctl that a job was at when it got SIGUSR1."""
    path = _stack_file(job)
    if not path.exists():
        return "its start, before it could tell"
    lines = path.read_text(encoding="utf-8").splitlines()
    ours = [line.strip() for line in lines if "/gridctl/" in line]
    return ours[0] if ours else "an unknown line"


def _stack_file(job: Job) -> Path:
    return job.work / f"{job.name.replace(' ', '-')}.stack"


def run_job(job: Job) -> None:
    """The process: do the job and append its rows, an error's too."""
    faulthandler.register(signal.SIGUSR1, _stack_file(job).open("w"))
    os.environ["GRIDCTL_CACHE"] = str(job.work / "cache")
    started = time.monotonic()
    facts = {"job": job.name, "kind": job.kind, "cap_gib": job.cap_gib}
    try:
        quiet_libraries()
        if not job.expandable:  # gridctl leaves a setting of the user alone
            os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:False"
        grow_segments()
        cap_memory(job.cap_gib)
        row = KINDS[job.kind](job)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-4:]
        at = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(where))
        lines = str(error).strip().splitlines() or [""]
        row = {"error": f"{type(error).__name__}: {lines[0][:300]}", "at": at, **peak_memory()}
    append_row(job.results, {**facts, **row, "wall_seconds": round(time.monotonic() - started, 1)})


def encode(job: Job) -> dict[str, Any]:
    """Fill the cache: grids through the VAE, captions through T5 and CLIP."""
    from gridctl.train.cache import encode_grids, encode_prompts
    from gridctl.train.setup import set_up

    profile = job.load()
    setup = set_up(profile, progress=silent)
    samples = [sample for dataset in setup.datasets for sample in dataset.train]
    grids = setup.cache.grids({profile.grid.to_grid(): samples})
    prompts = setup.cache.prompts(setup.captions)
    batch, tokens = profile.memory.encode_batch, profile.model.text_tokens
    row: dict[str, Any] = {"grids": len(grids), "captions": len(prompts)}
    work: dict[str, Callable[[], None]] = {
        "vae": lambda: encode_grids(setup.base, grids, batch=batch, progress=silent),
        "text": lambda: encode_prompts(setup.base, prompts, text_tokens=tokens, progress=silent),
    }
    with alone(job.lock):
        for name, run in work.items():
            reset_peak()
            started = time.monotonic()
            run()
            row[f"{name}_seconds"] = round(time.monotonic() - started, 2)
            row |= {f"{name}_{key}": value for key, value in peak_memory().items()}
    return row


def train_steps(job: Job) -> dict[str, Any]:
    """Train with the real command's code; memory and seconds a step."""
    from gridctl.train import train

    profile = job.load()
    timer = StepTimer(job.lock, "loss", steps=profile.train.checkpoint_every)
    phases = Phases()
    row: dict[str, Any] = {}

    def progress(done: int, total: int, text: str) -> None:
        phases("steps" if text.startswith("loss") else text)
        timer(done, total, text)
        if text.startswith("loss"):
            row["loss"] = text
            row["seconds_per_step"] = timer.median_seconds
            row.update(peak_memory(), steps_done=done)
            if job.until and done % profile.train.checkpoint_every == 0:
                facts = {"job": job.name, "kind": job.kind, "phases": phases.close()}
                append_row(job.results, {**facts, **row})

    result = train(profile, progress=progress)
    assert result.loss is not None
    row |= {"resumed_at": result.resumed_at, "steps": result.steps}
    if not math.isfinite(result.loss):
        row["error"] = f"the loss is {result.loss}"
    row["adapter_mib"] = round(result.adapter.stat().st_size / 2**20)
    return row | peak_memory() | allocator() | {"phases": phases.close()}


def generate_clip(job: Job) -> dict[str, Any]:
    """Draw a clip with the adapter that `train_steps` wrote."""
    from gridctl.generate import Request, draw
    from gridctl.generate.tasks import t2v

    profile = job.load()
    steps = profile.generate.steps
    timer = StepTimer(job.lock, "sampling", steps=steps)
    output = job.work / f"{job.name.replace(' ', '-')}.gif"
    phases = Phases()
    sampled: dict[str, Any] = {}

    def progress(done: int, total: int, text: str) -> None:
        phases(text)
        timer(done, total, text)
        if text == "sampling" and done == steps:
            sampled.update({f"sampling_{k}": v for k, v in peak_memory().items()})
            sampled["resident_gib"] = allocated_gib()

    request = Request(prompts=(PROMPT,), output=output, profile=profile)
    draw(t2v.prepare(request), force=True, progress=progress)
    return {
        "seconds_per_step": timer.median_seconds,
        "decode_seconds": round(time.monotonic() - timer.times[-1], 2),
        **sampled,
        **peak_memory(),
        **allocator(),
        "clip_kib": round(output.stat().st_size / 1024),
        "phases": phases.close(),
    }


KINDS = {"encode": encode, "train": train_steps, "generate": generate_clip, "speed": speed}
