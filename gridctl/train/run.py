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
from gridctl.models.memory import GIB
from gridctl.models.transformer import attention_kernel
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
    refuse_distilled,
    set_up,
)
from gridctl.train.step import take_step

LOCK_FILE = ".lock"
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # of network drives without locks
_EXPLODED = 3.0  # times the loss at the start, and above _USELESS
_USELESS = 1.0  # noise has unit variance, so predicting no velocity at all costs more
_COMPARED = 5  # logged steps whose mean is compared with the start
_FIRST_CHECKPOINT_SECONDS = 60  # so that a fault in saving shows at once, not after hours
_SHOWN_FAULTS = 5


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run; `resumed_at` is the step it continued from (0 for a new one)."""

    adapter: Path
    run_folder: Path
    steps: int
    resumed_at: int
    loss: float | None


class Stopped(KeyboardInterrupt):
    """A signal ended the run after a step; `str` says at which."""


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
    progress, note = progress or silent, note or (lambda text: None)
    refuse_distilled(profile)
    grow_segments()  # accelerate starts CUDA
    accelerator = make_accelerator(profile)
    setup = set_up(profile, processes=accelerator.num_processes, progress=progress)
    check_folder(setup, force=force)
    is_main = accelerator.is_main_process
    if is_main:
        for dataset in dict.fromkeys(map(str, setup.datasets)):
            note(dataset)
        for fault in setup.caption_faults[:_SHOWN_FAULTS]:
            note(fault)
        if (more := len(setup.caption_faults) - _SHOWN_FAULTS) > 0:
            note(f"{counted(more, 'more fault')} in captions; gridctl caption --check lists them")
    if setup.base.device.type == "cuda":
        card_gib = torch.cuda.get_device_properties(setup.base.device).total_memory / GIB
        plan = check_memory(profile, setup.stages, setup.base.transformer_config, card_gib)
        note(f"GPU memory: {plan.peak:.1f} of {card_gib:.1f} GiB planned (--plan lists the parts)")
    with run_lock(setup.folder) if is_main else nullcontext():
        if is_main:
            if force:
                forget(setup.folder)
            check_folder(setup, force=force)  # again, because another run may just have ended
            setup.inputs.write(setup.folder, about(setup, processes=accelerator.num_processes))
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
    began, has_saved = clock(), start > 0
    kernel = attention_kernel(run.profile.model.attention, training=True)
    with kernel, stop_on_signal(note) as stopped:
        if start == 0:  # validation and previews to compare with
            progress(0, total, "validating the start")
            if (entry := validate(run)) and run.is_main:
                append_metrics(run.setup.folder, {"step": 0, **entry})
            if settings.preview_every:
                draw_previews(run, 0, progress=progress, note=note)
        progress(start, total, "first step")
        for step in range(start, total):
            result = take_step(run, step)
            done = step + 1
            meter.count()
            stop = _in_any_process(run, stopped()) and done < total
            due = done % settings.checkpoint_every == 0 or done == total
            if stop or due or step == 0 or done % settings.log_every == 0:
                entry = meter.measure(run, done, result)
                if due:
                    entry |= validate(run)
                if run.is_main:
                    append_metrics(run.setup.folder, entry)
                    run.accelerator.log(flat_metrics(entry), step=done)
                guard.check(run, entry)
            progress(done, total, meter.text)
            early = not has_saved and clock() - began > _FIRST_CHECKPOINT_SECONDS
            if run.is_main and (due or stop or early):
                has_saved = True  # or has failed to: a full disk is not tried again at every step
                _save(run, done, note=note, must=stop or done == total)
            if stop:
                raise Stopped(f"stopped at step {done} of {total}; the same command resumes there")
            if settings.preview_every and (done % settings.preview_every == 0 or done == total):
                draw_previews(run, done, progress=progress, note=note)


def _in_any_process(run: Run, stop: bool) -> bool:
    """Whether any process was asked to stop: all of them must stop at the same step."""
    if run.accelerator.num_processes == 1:
        return stop
    asked = torch.tensor(float(stop), device=run.device)
    return bool(run.accelerator.reduce(asked, "sum") > 0)


class LossGuard:
    """Ends a run whose logged losses become NaN or diverge."""

    def __init__(self) -> None:
        self._losses: list[float] = []

    def check(self, run: Run, entry: dict[str, Any]) -> None:
        """Raise NotFiniteError, which names the last good checkpoint, for such an entry."""
        step = entry["step"]
        if not (math.isfinite(entry["loss"]) and math.isfinite(entry["grad_norm"])):
            raise _failed(run, f"the loss or its gradient is not a finite number at step {step}")
        self._losses.append(entry["base"])
        first, last = self._losses[0], statistics.fmean(self._losses[-_COMPARED:])
        if len(self._losses) > _COMPARED and last > max(_USELESS, _EXPLODED * first):
            raise _failed(run, f"the loss exploded from {first:.3g} to {last:.3g} by step {step}")


def _save(run: Run, step: int, *, note: Note, must: bool) -> None:
    """Write a checkpoint. A full disk ends the run only if the checkpoint `must` be written."""
    try:
        save_run(run, step)
    except NotFiniteError as error:
        raise _failed(run, str(error)) from None
    except InputError as error:
        last = last_checkpoint(run.setup.folder)
        if must:
            raise InputError(f"{error} Step {step} is not saved; {last}.") from error
        note(f"{error} The run goes on and tries again at the next checkpoint; {last}.")


def _failed(run: Run, problem: str) -> NotFiniteError:
    return NotFiniteError(
        f"{problem}; {last_checkpoint(run.setup.folder)}. Lower train.learning_rate in a new run "
        "(-o); --export STEP turns a good checkpoint into an adapter to --start from."
    )


@contextmanager
def stop_on_signal(note: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield a function: whether SIGINT or SIGTERM has come. A second signal acts at once."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def catch(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(number, previous[number])
        with suppress(RuntimeError):  # stderr refuses a line within a line
            note("stopping after this step; another signal stops at once")

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            previous[number] = signal.signal(number, catch)
    except ValueError:  # not the main thread, as in some notebooks: no signals come here
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
