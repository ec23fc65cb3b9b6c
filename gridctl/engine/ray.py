"""The engine `ray`: a task per job on a Ray cluster, or on a Ray of this machine only.

A worker writes its files itself and returns metadata, so the object store carries no pictures.
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
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gridctl import __version__
from gridctl.engine.local import outcome_of
from gridctl.errors import GridctlError, UsageError
from gridctl.machine.devices import num_cores

Job = TypeVar("Job")
Result = TypeVar("Result")

WORKER_TRIES = 2  # a job that ends its worker twice is taken to be the reason
NODE_TRIES = 5  # a node that is lost is not the job's fault, but no job may run forever
_QUEUE = 2  # jobs in flight per core: one that runs, and one that waits
_POLL_SECONDS = 1.0
_CONNECT_SECONDS = 10.0
_STORE_BYTES = 80 * 2**20  # Ray's minimum is 75 MiB; results are smaller


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Limits for the tasks: the cores of one, and how many run at a time."""

    cores: float = 1.0
    """Cores that a job keeps busy. A request to a server needs a small part of one."""
    limit: int | None = None
    """Most jobs in flight on the whole cluster. None is two per core."""
    stall_seconds: float | None = None
    """A job without a tick for so long has its worker ended. None is forever."""
    cancel_seconds: float = 10.0
    """Time for a cancelled job to remove the file that it was writing."""


def run_jobs(
    jobs: Iterable[Job],
    work: Callable[..., Result],
    *,
    name: Callable[[Job], str],
    tasks: Tasks,
    workers: int | None = None,
    address: str | None = None,
) -> Generator[tuple[int, Result | str]]:
    """Call `work(job, tick=...)` for each of `jobs` on the Ray cluster at `address`.

    Without an address (here or in $RAY_ADDRESS), a Ray with `workers` cores is started on this
    machine and ended afterwards. None is all cores. A worker changes to this process's folder if
    its node has it, so relative paths work on a shared disk. `jobs` are taken when there is
    room for them.

    Yields like `gridctl.engine.local.run_jobs`. Whatever ends the caller's loop cancels what
    is running and waits until it has ended.
    Raises UsageError if Ray is not installed, GridctlError if the cluster cannot be used.
    """
    with connected(workers, address) as ray:
        limit = tasks.limit or (workers if address_of(address) else None)
        run = _Run(ray, jobs, work, name, tasks, limit)
        try:
            yield from run.outcomes()
        finally:
            run.cancel()


class _Run:
    """The jobs that are in flight, and how often each was lost."""

    def __init__(
        self,
        ray: Any,
        jobs: Iterable[Any],
        work: Callable[..., Any],
        name: Callable[[Any], str],
        tasks: Tasks,
        limit: int | None,
    ) -> None:
        self._ray = ray
        self._name = name
        self._limit = limit
        self._cancel_seconds = tasks.cancel_seconds
        self._running: dict[Any, tuple[int, Any]] = {}  # object reference → number and job
        self._waiting = enumerate(jobs)
        self._worker_losses: Counter[int] = Counter()
        self._node_losses: Counter[int] = Counter()
        self._task = ray.remote(num_cpus=tasks.cores, max_retries=0)(_attempt)
        self._shared = (work, here(), tasks.stall_seconds)

    def outcomes(self) -> Iterator[tuple[int, Any]]:
        self._fill()
        while self._running:
            for reference in self._ready():
                number, job = self._running.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    lost = self._count(number, self._name(job), error)
                    if lost is None:
                        self._submit(number, job)
                        continue
                    outcome = lost
                self._fill()
                yield number, outcome

    def cancel(self) -> None:
        """End all jobs. Workers get a moment to remove the files that they were writing."""
        left = list(self._running)
        if left and self._cancel_seconds:
            for reference in left:
                self._ray.cancel(reference)
            _, left = self._ray.wait(left, num_returns=len(left), timeout=self._cancel_seconds)
        for reference in left:
            self._ray.cancel(reference, force=True)
        self._running.clear()

    def _fill(self) -> None:
        cores = self._ray.cluster_resources().get("CPU", 0)  # a cluster may grow and shrink
        limit = self._limit or max(2, int(_QUEUE * cores))
        while len(self._running) < limit:
            following = next(self._waiting, None)
            if following is None:
                return
            self._submit(*following)

    def _submit(self, number: int, job: Any) -> None:
        reference = self._task.remote(job, self._name(job), *self._shared)
        self._running[reference] = number, job

    def _ready(self) -> list[Any]:
        running = list(self._running)
        try:
            first, others = self._ray.wait(running, num_returns=1, timeout=_POLL_SECONDS)
        except SystemError as error:  # what Ray makes of an exception from a signal's handler
            raise error.__cause__ or error from None
        if first and others:
            first += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        return list(first)

    def _count(self, number: int, name: str, error: Exception) -> str | None:
        """The line of a job that is given up after `error`; None to try it again."""
        kinds = self._ray.exceptions
        if isinstance(error, kinds.RayTaskError):  # `_attempt` catches what a job raises
            raise cannot_run(error) from error
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
    caller: tuple[str, str],
    stall_seconds: float | None,
) -> Any:
    """One job, in a worker."""
    go_to(caller)
    with _watched(stall_seconds) as tick:
        return outcome_of(job, work, name, tick)


@contextmanager
def _watched(stall_seconds: float | None) -> Iterator[Callable[[], None]]:
    """Yield a tick. Without one for `stall_seconds` this worker ends itself: its decoder hangs."""
    sign_of_life = [time.monotonic()]
    ended = threading.Event()

    def tick() -> None:
        sign_of_life[0] = time.monotonic()

    def watch() -> None:
        while stall_seconds is not None and not ended.wait(min(_POLL_SECONDS, stall_seconds)):
            if time.monotonic() - sign_of_life[0] > stall_seconds:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield tick
    finally:
        ended.set()


@contextmanager
def connected(workers: int | None, address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at `address` or in $RAY_ADDRESS. A connection that is
    there already is used and kept.

    Without an address a Ray with `workers` cores is started on this machine and ended afterwards.
    None is all cores. Raises UsageError if Ray is not installed, GridctlError if the cluster
    cannot be used.
    """
    ray = import_ray()
    address = address_of(address)
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
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def import_ray() -> Any:
    # Ray prints on stdout which workers died. It reads this variable when it is imported.
    silence = "RAY_DEDUP_LOGS_SKIP_REGEX"
    before = os.environ.get(silence)
    os.environ[silence] = ".*"
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray; run: pip install ray") from None
    finally:
        if before is None:
            del os.environ[silence]
        else:
            os.environ[silence] = before
    return ray


def address_of(address: str | None) -> str | None:
    """`address`, else the one in the environment, as Ray's own tools do."""
    return address or os.environ.get("RAY_ADDRESS") or None


def here() -> tuple[str, str]:
    """(folder, version) of this process, for `go_to` in a worker."""
    return str(Path.cwd()), __version__


def go_to(caller: tuple[str, str]) -> None:
    """In a worker: change to the caller's folder. RuntimeError if gridctl differs from its."""
    folder, version = caller
    if version != __version__:
        raise RuntimeError(f"it has gridctl {__version__}, and the command is {version}")
    with suppress(OSError):  # a node without this folder can still read absolute paths
        os.chdir(folder)


def cannot_run(error: Exception) -> GridctlError:
    """The error for a node that cannot even start a job."""
    fault = str(error).strip().splitlines()[-1]
    return GridctlError(
        f"a Ray node cannot run gridctl ({fault}); install the same gridctl on each node."
    )
