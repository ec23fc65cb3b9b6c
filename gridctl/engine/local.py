"""The engine `local`: a process per core, one job at a time. If one dies, only its job is lost.

Decoders are C code that reads files from anywhere. They run in separate processes: a crash or a
hang ends one worker, its job fails with a message, and a new worker takes over.

Why not a library's pool: concurrent.futures gives up the whole pool when one worker dies, and
multiprocessing.Pool waits forever for its result. Neither ends a worker that hangs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from gridctl.errors import GridctlError

Job = TypeVar("Job")
Result = TypeVar("Result")

STALL_SECONDS = 300.0  # without a packet, frame or image: the decoder hangs
_POLL_SECONDS = 1.0


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[..., Result],
    *,
    name: Callable[[Job], str],
    workers: int,
    stall_seconds: float = STALL_SECONDS,
) -> Generator[tuple[int, Result | str]]:
    """Call `work(job, tick=...)` for each of `jobs` in processes of their own.

    Yields (number of the job, its result) as they finish. The result of a job that failed is the
    one line that says why: a GridctlError's message, or one that begins with `name(job)`. `work`
    calls `tick` as a sign of life: a job without one for `stall_seconds` fails. Whatever ends the
    caller's loop, an interrupt too, ends the workers at once. Removing half-written files is up
    to the caller.
    """
    # A fork starts at once. It is safe on Linux only; elsewhere a new interpreter starts.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    waiting = iter(enumerate(jobs))
    busy: list[_Worker] = []
    try:
        for _ in range(min(workers, len(jobs))):
            busy.append(worker := _Worker(context, work, name, stall_seconds))
            _give(worker, waiting)
        while busy:
            ready = connection.wait([worker.connection for worker in busy], _POLL_SECONDS)
            for worker in list(busy):
                if worker.connection not in ready and not worker.is_stalled():
                    continue
                number = worker.number
                outcome = worker.outcome()
                if not worker.is_alive():
                    outcome = f"{name(jobs[number])} {outcome}; replace it or leave it out."
                    busy.remove(worker)
                    busy.append(worker := _Worker(context, work, name, stall_seconds))
                if not _give(worker, waiting):
                    busy.remove(worker)
                    worker.dismiss()
                yield number, outcome
    finally:
        for worker in busy:
            worker.end()


def _give(worker: _Worker, waiting: Iterator[tuple[int, Any]]) -> bool:
    for number, job in waiting:
        worker.start(number, job)
        return True
    return False


class _Worker:
    """A process and its current job."""

    def __init__(
        self,
        context: Any,
        work: Callable[..., Any],
        name: Callable[[Any], str],
        stall_seconds: float,
    ) -> None:
        self._stall_seconds = stall_seconds
        self.connection, theirs = context.Pipe()
        self.number = -1
        self._sign_of_life = context.Value("d", time.monotonic(), lock=False)
        self._process = context.Process(
            target=_serve,
            args=(theirs, work, name, self._sign_of_life, os.getpid()),
            daemon=True,
        )
        with _no_interrupt():
            self._process.start()
        theirs.close()

    def start(self, number: int, job: Any) -> None:
        self.number = number
        self._sign_of_life.value = time.monotonic()
        self.connection.send(job)

    def is_stalled(self) -> bool:
        return bool(time.monotonic() - self._sign_of_life.value > self._stall_seconds)

    def is_alive(self) -> bool:
        return bool(self._process.is_alive())

    def outcome(self) -> Any:
        """The result of its job, or why there is none. The process may have ended after this."""
        if not self.connection.poll():
            self.end()
            seconds = f"{self._stall_seconds:.0f} seconds"
            return f"made no progress for {seconds}, so its decoder was ended"
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self.end()
            if code == -signal.SIGKILL:
                return "was ended by the system, which may be out of memory"
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return f"made its decoder crash ({name})"

    def dismiss(self) -> None:
        """End it when there are no more jobs."""
        self.connection.send(None)
        self._process.join()
        self.connection.close()

    def end(self) -> None:
        """End it now, even in the middle of writing a file."""
        # Not by a signal that it handles: Python loses an exception raised in a finalizer.
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(
    jobs: Connection,
    work: Callable[..., Any],
    name: Callable[[Any], str],
    sign_of_life: Any,
    parent: int,
) -> None:
    # A signal to the whole process group reaches the parent too, which cleans up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def tick() -> None:
        sign_of_life.value = time.monotonic()
        if os.getppid() != parent:
            sys.exit(1)  # the parent has ended, so nobody wants the result

    def next_job() -> Any:
        # A fork also has the parent's end of the pipe open, so the pipe never closes.
        while not jobs.poll(_POLL_SECONDS):
            tick()
        return jobs.recv()

    with suppress(EOFError, OSError):  # the parent has ended
        while (job := next_job()) is not None:
            jobs.send(outcome_of(job, work, name(job), tick))


def outcome_of(job: Any, work: Callable[..., Any], name: str, tick: Callable[[], None]) -> Any:
    """`work(job, tick=tick)`, or the line that says why it failed."""
    try:
        return work(job, tick=tick)
    except GridctlError as error:
        return str(error)
    except MemoryError:
        return f"{name} needs more memory than there is; use --workers 1."
    except Exception as error:
        # A bug that one clip of ten thousand meets must not cost the others.
        fault = f"{type(error).__name__}: {error}"
        return f"{name} met a bug in gridctl ({fault}); please report it."


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Delay interrupts while a process starts: Python loses an exception raised by a fork's hooks.

    Blocking the signals is not enough, because another thread of the process may receive them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for one in came:
            signal.raise_signal(one)
