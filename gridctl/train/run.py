"""`train`: captioned grids → a LoRA adapter. The loop, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from gridctl.errors import counted
from gridctl.machine.devices import grow_segments
from gridctl.models.attention import attention_kernel
from gridctl.models.memory import GIB
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.train.guard import LossGuard, save_or_note, stop_on_signal
from gridctl.train.lock import run_lock
from gridctl.train.metrics import Meter, append_metrics, flat_metrics, read_metrics, start_trackers
from gridctl.train.plan import check_memory
from gridctl.train.preview import draw_previews
from gridctl.train.report import about, write_report
from gridctl.train.setup import (
    Note,
    Run,
    check_folder,
    fill_cache,
    load_run,
    make_accelerator,
    refuse_schnell,
    set_up,
)
from gridctl.train.state import export_run, forget, resume
from gridctl.train.step import take_step
from gridctl.train.validate import validate

_FIRST_CHECKPOINT_SECONDS = 60  # a fault in saving shows at once, not after hours
_FAULTS = 5  # of captions, shown at the start


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run has made; `resumed_at` is the step it continued from (0 for a new one)."""

    adapter: Path
    run_folder: Path
    steps: int
    resumed_at: int
    loss: float | None


class Stopped(KeyboardInterrupt):
    """A signal ended the run after a step; `str` says where it stands."""


def train(
    profile: Profile,
    *,
    force: bool = False,
    progress: Progress | None = None,
    note: Note | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Train an adapter on the profile's data, or resume where the last run stopped.

    Checkpoints, `metrics.jsonl`, previews and a report are in a folder beside the adapter. SIGINT
    and SIGTERM end the run after the current step, with a checkpoint. `note` is called with lines
    for the user. `clock` gives seconds: a new run writes its first checkpoint after a minute.

    Raises UsageError for a profile that cannot be trained; InputError for unusable data, an
    adapter that exists already or a disk that takes no checkpoint; NotFiniteError for a loss
    that is not finite or explodes; Stopped after a signal.
    """
    progress, note = progress or silent, note or _ignore
    refuse_schnell(profile)
    grow_segments()  # accelerate starts CUDA
    accelerator = make_accelerator(profile)
    setup = set_up(profile, force=force, progress=progress)
    is_main = accelerator.is_main_process
    if is_main:
        for dataset in dict.fromkeys(map(str, setup.datasets)):
            note(dataset)
        for fault in setup.caption_faults[:_FAULTS]:
            note(fault)
        if (more := len(setup.caption_faults) - _FAULTS) > 0:
            note(
                f"{counted(more, 'caption')} more with a fault; gridctl caption --check lists them"
            )
    if setup.base.device.type == "cuda":
        card_gib = torch.cuda.get_device_properties(setup.base.device).total_memory / GIB
        plan = check_memory(profile, setup.stages, setup.base.transformer_config, card_gib)
        note(f"GPU memory: {plan.peak:.1f} of {card_gib:.1f} GiB planned (--plan lists the parts)")
    with run_lock(setup.folder) if is_main else nullcontext():
        if is_main:
            if force:
                forget(setup.folder)
            check_folder(setup, force=force)  # again: another run may just have ended
            setup.identity.write(setup.folder, about(setup, processes=accelerator.num_processes))
            fill_cache(setup, progress=progress)
        accelerator.wait_for_everyone()
        run = load_run(setup, accelerator, progress=progress)
        start = resume(run)
        if is_main and 0 < start < setup.total_steps:
            note(f"resuming at step {start} of {setup.total_steps}")
        start_trackers(run)
        _train(run, start, progress=progress, note=note, clock=clock)
        accelerator.end_training()
        if is_main:
            export_run(run)
            write_report(setup.folder)
    logged = read_metrics(setup.folder)
    return TrainResult(
        adapter=setup.adapter,
        run_folder=setup.folder,
        steps=setup.total_steps,
        resumed_at=start,
        loss=logged[-1].get("loss") if logged else None,
    )


def _train(
    run: Run, start: int, *, progress: Progress, note: Note, clock: Callable[[], float]
) -> None:
    """Take the steps from `start` to the end."""
    settings, total = run.profile.train, run.setup.total_steps
    meter, guard = Meter(read_metrics(run.setup.folder)), LossGuard()
    began, tried = clock(), start > 0
    kernel = attention_kernel(run.profile.model.attention, training=True)
    with kernel, stop_on_signal(note) as stopped:
        if start == 0:
            _show_start(run, progress=progress, note=note)
        progress(start, total, "first step")
        for step in range(start, total):
            taken = take_step(run, step)
            done = step + 1
            meter.count()
            stop = _agree(run, stopped()) and done < total
            due = done % settings.checkpoint_every == 0 or done == total
            if stop or due or step == 0 or done % settings.log_every == 0:
                entry = meter.measure(run, done, taken)
                if due:
                    entry |= validate(run)
                if run.is_main:
                    append_metrics(run.setup.folder, entry)
                    run.accelerator.log(flat_metrics(entry), step=done)
                guard.check(run, entry)
            progress(done, total, meter.text)
            early = not tried and clock() - began > _FIRST_CHECKPOINT_SECONDS
            if run.is_main and (due or stop or early):
                tried = True  # a full disk is not tried again at every step
                save_or_note(run, done, note=note, must=stop or done == total)
            if stop:
                raise Stopped(f"stopped at step {done} of {total}; the same command resumes there")
            if settings.preview_every and (done % settings.preview_every == 0 or done == total):
                draw_previews(run, done, progress=progress, note=note)


def _show_start(run: Run, *, progress: Progress, note: Note) -> None:
    """Validation and previews before the first step, to compare with."""
    progress(0, run.setup.total_steps, "validating the start")
    entry = validate(run)
    if entry and run.is_main:
        append_metrics(run.setup.folder, {"step": 0, **entry})
    if run.profile.train.preview_every:
        draw_previews(run, 0, progress=progress, note=note)


def _agree(run: Run, stop: bool) -> bool:
    """Whether any process was asked to stop; all of them must stop at the same step."""
    if run.accelerator.num_processes == 1:
        return stop
    asked = torch.tensor(float(stop), device=run.device)
    return bool(run.accelerator.reduce(asked, "sum") > 0)


def _ignore(text: str) -> None:
    """The note of callers who do not ask."""
