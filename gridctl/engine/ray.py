"""The engine `ray`: a task per job on a Ray cluster, or on a Ray of this machine only.

A worker writes its files itself and returns facts, so the object store carries no pictures.
Failures are counted here rather than by Ray's own retries, because Ray repeats a job that runs
out of memory forever and does not tell a job that kills its worker from a node that was lost.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from gridctl import __version__
from gridctl.engine.outcome import STALL_SECONDS, outcome_of
from gridctl.errors import GridctlError, UsageError
from gridctl.machine.cores import num_cores

Job = TypeVar("Job")
Result = TypeVar("Result")

WORKER_TRIES = 2  # a job that ends its worker twice is taken to be the reason
NODE_TRIES = 5  # a node that is lost is not the job's fault, but no job may run forever
CONNECT_SECONDS = 10.0
CANCEL_SECONDS = 10.0  # for workers to remove the file that they were writing
_QUEUE = 2  # jobs in flight per core: one that runs, and one that waits
_POLL_SECONDS = 1.0
_STORE_BYTES = 80 * 2**20  # Ray's minimum is 75 MiB; results are smaller


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[..., Result],
    *,
    name: Callable[[Job], str],
    workers: int | None,
    address: str | None,
) -> Generator[tuple[int, Result | str]]:
    """Call `work(job, tick=...)` for each of `jobs` on the Ray cluster at `address`.

    Without an address (here or in $RAY_ADDRESS), a Ray with `workers` cores is started on this
    machine and ended afterwards. None is all cores. On a cluster `workers` limits the jobs in
    flight. A worker changes to this process's folder if its node has it, so relative paths work
    on a shared disk.

    Yields like `gridctl.engine.local.run_jobs`. Whatever ends the caller's loop cancels what
    is running and waits until it has ended.
    Raises UsageError if Ray is not installed, GridctlError if the cluster cannot be used.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    with _connected(workers, address) as ray:
        tasks = _Tasks(ray, jobs, work, name, workers if address else None)
        try:
            yield from tasks.run()
        finally:
            tasks.cancel()


class _Tasks:
    """The jobs that are in flight, and how often each was lost."""

    def __init__(
        self,
        ray: Any,
        jobs: Sequence[Any],
        work: Callable[..., Any],
        name: Callable[[Any], str],
        limit: int | None,
    ) -> None:
        self._ray = ray
        self._jobs = jobs
        self._name = name
        self._limit = limit
        self._running: dict[Any, int] = {}  # object reference → number of the job
        self._waiting = iter(range(len(jobs)))
        self._worker_losses: Counter[int] = Counter()
        self._node_losses: Counter[int] = Counter()
        self._task = ray.remote(num_cpus=1, max_retries=0)(_attempt)
        self._shared = (work, str(Path.cwd()), __version__, STALL_SECONDS)

    def run(self) -> Iterator[tuple[int, Any]]:
        self._fill()
        while self._running:
            for reference in self._ready():
                number = self._running.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    lost = self._count(number, error)
                    if lost is None:
                        self._submit(number)
                        continue
                    outcome = lost
                self._fill()
                yield number, outcome

    def cancel(self) -> None:
        """End all jobs. Workers get a moment to remove the files that they were writing."""
        if not self._running:
            return
        for reference in self._running:
            self._ray.cancel(reference)
        running = list(self._running)
        _, left = self._ray.wait(running, num_returns=len(running), timeout=CANCEL_SECONDS)
        for reference in left:
            self._ray.cancel(reference, force=True)
        self._running.clear()

    def _fill(self) -> None:
        cores = self._ray.cluster_resources().get("CPU", 0)  # a cluster may grow and shrink
        limit = self._limit or max(2, int(_QUEUE * cores))
        while len(self._running) < limit:
            number = next(self._waiting, None)
            if number is None:
                return
            self._submit(number)

    def _submit(self, number: int) -> None:
        job = self._jobs[number]
        self._running[self._task.remote(job, self._name(job), *self._shared)] = number

    def _ready(self) -> list[Any]:
        running = list(self._running)
        try:
            first, others = self._ray.wait(running, num_returns=1, timeout=_POLL_SECONDS)
        except SystemError as error:  # what Ray makes of an exception from a signal's handler
            raise error.__cause__ or error from None
        if first and others:
            first += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        return list(first)

    def _count(self, number: int, error: Exception) -> str | None:
        """The line of a job that is given up after `error`; None to try it again."""
        kinds = self._ray.exceptions
        name = self._name(self._jobs[number])
        if isinstance(error, kinds.RayTaskError):  # `_attempt` catches what a job raises
            fault = str(error).strip().splitlines()[-1]
            raise GridctlError(
                f"a Ray node cannot run gridctl ({fault}); install the same gridctl on each node."
            ) from error
        if isinstance(error, kinds.NodeDiedError | kinds.ObjectLostError):
            self._node_losses[number] += 1
            if self._node_losses[number] < NODE_TRIES:
                return None
            return f"{name} was lost with its node {NODE_TRIES} times; run the command again."
        self._worker_losses[number] += 1
        if self._worker_losses[number] < WORKER_TRIES:
            return None
        if isinstance(error, kinds.OutOfMemoryError):
            return f"{name} needs more memory than its node has; use --workers 1, or leave it out."
        return f"{name} ended its worker {WORKER_TRIES} times; replace it or leave it out."


def _attempt(
    job: Any,
    name: str,
    work: Callable[..., Any],
    folder: str,
    version: str,
    stall_seconds: float,
) -> Any:
    """One job, in a worker."""
    if version != __version__:
        raise RuntimeError(f"it has gridctl {__version__}, and the command is {version}")
    with suppress(OSError):  # a node without this folder can still read absolute paths and URLs
        os.chdir(folder)
    with _watched(stall_seconds) as tick:
        return outcome_of(job, work, name, tick)


@contextmanager
def _watched(stall_seconds: float) -> Iterator[Callable[[], None]]:
    """Yield a tick. Without one for `stall_seconds` this worker ends itself: its decoder hangs."""
    sign_of_life = [time.monotonic()]
    ended = threading.Event()

    def tick() -> None:
        sign_of_life[0] = time.monotonic()

    def watch() -> None:
        while not ended.wait(min(_POLL_SECONDS, stall_seconds)):
            if time.monotonic() - sign_of_life[0] > stall_seconds:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield tick
    finally:
        ended.set()


@contextmanager
def _connected(workers: int | None, address: str | None) -> Iterator[Any]:
    """Ray, connected. What was connected before stays so."""
    ray = _import_ray()
    if ray.is_initialized() and address is None:
        yield ray
        return
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {
            "address": "local",
            "num_cpus": workers or num_cores(),
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        _refuse_dead(address)
        ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise GridctlError(
            f"no Ray at {address or 'this machine'} ({reason}); check --ray-address, or start one "
            "with `ray start --head`."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_dead(address: str | None) -> None:
    """Raise OSError if nothing listens at `host:port`, where Ray would wait for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _import_ray() -> Any:
    # Ray prints on stdout which workers died. It reads this variable when it is imported.
    silence = "RAY_DEDUP_LOGS_SKIP_REGEX"
    before = os.environ.get(silence)
    os.environ[silence] = ".*"
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray; run: pip install 'gridctl[ray]'") from None
    finally:
        if before is None:
            del os.environ[silence]
        else:
            os.environ[silence] = before
    return ray
