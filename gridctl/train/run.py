"""`train`: captioned grids → a LoRA adapter. The loop, top to bottom."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from gridctl.errors import InputError, counted
from gridctl.files import cannot_write
from gridctl.machine.devices import grow_segments
from gridctl.models.attention import attention_kernel
from gridctl.models.memory import GIB
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.train.checkpoint import (
    NotFiniteError,
    check_folder,
    export_run,
    forget,
    last_checkpoint,
    resume,
    save_run,
)
from gridctl.train.metrics import (
    Meter,
    append_metrics,
    flat_metrics,
    read_metrics,
    start_trackers,
    validate,
)
from gridctl.train.plan import check_memory
from gridctl.train.preview import draw_previews
from gridctl.train.report import about, write_report
from gridctl.train.setup import (
    Note,
    Run,
    fill_cache,
    load_run,
    make_accelerator,
    refuse_schnell,
    set_up,
)
from gridctl.train.step import take_step

LOCK_FILE = ".lock"
# Errors of file systems without locks: some network drives, FUSE.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_EXPLODED = 3.0  # times the loss at the start, and above _USELESS
_USELESS = 1.0  # noise has unit variance, so predicting no velocity at all costs more
_COMPARED = 5  # logged steps whose mean is looked at
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
    setup = set_up(profile, progress=progress)
    check_folder(setup, force=force)
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


class LossGuard:
    """Watches logged losses for one that is not finite, or far above where the run began."""

    def __init__(self) -> None:
        self._losses: list[float] = []

    def check(self, run: Run, entry: dict[str, Any]) -> None:
        """Raise NotFiniteError, which names the last good checkpoint, if the run went wrong."""
        if problem := self._problem(entry):
            raise NotFiniteError(_advice(run, problem))

    def _problem(self, entry: dict[str, Any]) -> str | None:
        step = entry["step"]
        if not all(math.isfinite(entry[key]) for key in ("loss", "grad_norm")):
            return f"the loss or its gradient is not a finite number at step {step}"
        self._losses.append(entry["base"])
        if len(self._losses) <= _COMPARED:
            return None
        first = self._losses[0]
        last = statistics.fmean(self._losses[-_COMPARED:])
        if last <= max(_USELESS, _EXPLODED * first):
            return None
        return f"the loss exploded from {first:.3g} to {last:.3g} by step {step}"


def save_or_note(run: Run, step: int, *, note: Note, must: bool) -> None:
    """Write a checkpoint. A full disk ends the run only if the checkpoint `must` be written."""
    try:
        save_run(run, step)
    except NotFiniteError as error:
        raise NotFiniteError(_advice(run, str(error))) from None
    except InputError as error:
        last = last_checkpoint(run.setup.folder)
        if must:
            raise InputError(f"{error} Step {step} is not saved; {last}.") from error
        note(f"{error} The run goes on and tries again at the next checkpoint; {last}.")


def _advice(run: Run, problem: str) -> str:
    return (
        f"{problem}; {last_checkpoint(run.setup.folder)}. Lower train.learning_rate in a new run "
        "(-o); --export STEP turns a good checkpoint into an adapter to --start from."
    )


@contextmanager
def stop_on_signal(note: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield a question: has SIGINT or SIGTERM come? A second signal acts at once, as usual."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def catch(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(number, previous[number])
        with suppress(RuntimeError):  # it came in the middle of another line
            note("stopping after this step; another signal stops at once")

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


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is created if it does not exist.

    The system releases it however the process ends. It also works between machines where the disk
    is shared by NFS or a cluster file system. A file system without locks is used unlocked.

    Raises InputError while another process holds it, or if the folder cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE, timeout=0, on_acquired=_write_holder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder} is in use by another run ({_holder(folder)}); wait for it, stop it, or "
            "choose another output (-o)."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _write_holder(lock_file: int) -> None:
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
    os.write(lock_file, json.dumps(holder).encode())


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / LOCK_FILE).read_text())
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(holder["since"]))
        return f"process {holder['pid']} on {holder['host']}, since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "just started"
