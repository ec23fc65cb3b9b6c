"""`train`: captioned grids → a LoRA adapter. The loop, top to bottom."""

from __future__ import annotations

import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gridctl.errors import InputError, counted
from gridctl.flux.attention import attention_kernel
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.train.lock import run_lock
from gridctl.train.metrics import Meter, append_metrics, read_metrics
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
from gridctl.train.state import (
    NotFiniteError,
    export_run,
    forget,
    last_checkpoint,
    resume,
    save_run,
)
from gridctl.train.step import take_step
from gridctl.train.validate import validate

_FIRST_CHECKPOINT_SECONDS = 60  # a fault in saving shows at once, not after hours
_FAULTS = 5  # of captions, shown at the start
_EXPLODED = 3.0  # times the loss at the start, and above _USELESS
_USELESS = 1.0  # noise has unit variance, so predicting no velocity at all costs more
_COMPARED = 5  # logged steps whose mean is looked at


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
) -> TrainResult:
    """Train an adapter on the profile's data, or resume where the last run stopped.

    Checkpoints and `metrics.jsonl` are in a folder beside the adapter. SIGINT and SIGTERM end
    the run after the current step, with a checkpoint. `note` is called with lines for the user.

    Raises UsageError for a profile that cannot be trained; InputError for unusable data, an
    adapter that exists already or a disk that takes no checkpoint; NotFiniteError for a loss
    that is not finite or explodes; Stopped after a signal.
    """
    progress, note = progress or silent, note or _ignore
    refuse_schnell(profile)
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
    with run_lock(setup.folder) if is_main else nullcontext():
        if is_main:
            if force:
                forget(setup.folder)
            check_folder(setup, force=force)  # again: another run may just have ended
            setup.identity.write(setup.folder)
            fill_cache(setup, progress=progress)
        accelerator.wait_for_everyone()
        run = load_run(setup, accelerator, progress=progress)
        start = resume(run)
        if is_main and 0 < start < setup.total_steps:
            note(f"resuming at step {start} of {setup.total_steps}")
        _train(run, start, progress=progress, note=note)
        if is_main:
            export_run(run)
    logged = read_metrics(setup.folder)
    return TrainResult(
        adapter=setup.adapter,
        run_folder=setup.folder,
        steps=setup.total_steps,
        resumed_at=start,
        loss=logged[-1]["loss"] if logged else None,
    )


def _train(run: Run, start: int, *, progress: Progress, note: Note) -> None:
    """Take the steps from `start` to the end."""
    settings, total = run.profile.train, run.setup.total_steps
    meter, explosion = Meter(), _Explosion()
    began, saved = time.monotonic(), start > 0
    progress(start, total, "first step")
    kernel = attention_kernel(run.profile.model.attention, training=True)
    with kernel, _stop_on_signal() as stopped:
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
                if problem := explosion.find(entry):
                    raise NotFiniteError(_advice(run, problem))
            progress(done, total, meter.text)
            early = not saved and time.monotonic() - began > _FIRST_CHECKPOINT_SECONDS
            if run.is_main and (due or stop or early):
                saved |= _save(run, done, note=note, must=stop or done == total)
            if stop:
                raise Stopped(f"stopped at step {done} of {total}; the same command resumes there")


def _save(run: Run, step: int, *, note: Note, must: bool) -> bool:
    """Write a checkpoint; whether it was written. A full disk ends the run only if it `must`."""
    try:
        save_run(run, step)
    except NotFiniteError as error:
        raise NotFiniteError(_advice(run, str(error))) from None
    except InputError as error:
        last = last_checkpoint(run.setup.folder)
        if must:
            raise InputError(f"{error} Step {step} is not saved; {last}.") from error
        note(f"{error} The run goes on and tries again at the next checkpoint; {last}.")
        return False
    return True


def _advice(run: Run, problem: str) -> str:
    return (
        f"{problem}; {last_checkpoint(run.setup.folder)}. Lower train.learning_rate in a new run "
        "(-o); --export STEP turns a good checkpoint into an adapter to --start from."
    )


class _Explosion:
    """Watches logged losses for one that is not finite, or far above where the run began."""

    def __init__(self) -> None:
        self._losses: list[float] = []

    def find(self, entry: dict[str, Any]) -> str | None:
        """What is wrong with the run after this entry, if anything."""
        step, loss = entry["step"], entry["base"]
        if not all(math.isfinite(entry[key]) for key in ("loss", "grad_norm")):
            return f"the loss or its gradient is not a finite number at step {step}"
        self._losses.append(loss)
        if len(self._losses) <= _COMPARED:
            return None
        first = self._losses[0]
        last = statistics.fmean(self._losses[-_COMPARED:])
        if last <= max(_USELESS, _EXPLODED * first):
            return None
        return f"the loss exploded from {first:.3g} to {last:.3g} by step {step}"


def _agree(run: Run, stop: bool) -> bool:
    """Whether any process was asked to stop; all of them must stop at the same step."""
    if run.accelerator.num_processes == 1:
        return stop
    asked = torch.tensor(float(stop), device=run.device)
    return bool(run.accelerator.reduce(asked, "sum") > 0)


def _ignore(text: str) -> None:
    """The note of callers who do not ask."""


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yield a question: has SIGINT or SIGTERM come? A second signal acts at once, as usual."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def catch(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(number, previous[number])

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            previous[number] = signal.signal(number, catch)
    except ValueError:  # not the main thread, as in some notebooks: nothing to catch
        pass
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
