"""Actors on Ray: workers that prepare once, by loading a model, and then work job after job."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from gridctl.engine.ray import cannot_run, connected, go_to, here
from gridctl.errors import GridctlError

Job = TypeVar("Job")
Result = TypeVar("Result")

JOB_TRIES = 2


def run_on_actors(
    jobs: Iterable[Job],
    prepare: Callable[[], Callable[[Job], Result]],
    *,
    address: str | None = None,
) -> Generator[tuple[Job, Result | GridctlError]]:
    """Call `prepare()` in an actor for each GPU of the cluster, and what it returns for each job.

    A cluster without GPUs has one actor. Yields each job with its result as they finish. A job
    whose actor dies twice has a GridctlError for its result. Where the cluster is: see
    `gridctl.engine.ray.run_jobs`.
    Raises the GridctlError that `prepare` raises: no other actor would do better.
    """
    with connected(None, address) as ray:
        actors = _Actors(ray, iter(jobs), prepare)
        try:
            yield from actors.results()
        finally:
            actors.end()


class _Actors:
    """The actors, each with one job: a job that waits would be lost with the one that runs."""

    def __init__(
        self, ray: Any, jobs: Iterator[Any], prepare: Callable[[], Callable[[Any], Any]]
    ) -> None:
        self._ray = ray
        self._jobs = jobs
        self._prepare = prepare
        gpus = int(ray.cluster_resources().get("GPU", 0))
        self._make = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(_Actor).remote
        self._count = max(1, gpus)
        self._alive: list[Any] = []
        self._running: dict[Any, tuple[Any, int, Any]] = {}  # reference → job, tries, actor

    def results(self) -> Iterator[tuple[Any, Any]]:
        for _ in range(self._count):
            self._give(self._start())
        while self._running:
            (reference,), _ = self._ray.wait(list(self._running), num_returns=1)
            job, tries, actor = self._running.pop(reference)
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                self._alive.remove(actor)
                actor = self._start()
                if tries < JOB_TRIES:
                    self._submit(actor, job, tries + 1)
                    continue
                result = GridctlError(f"its worker ended {JOB_TRIES} times ({_reason(error)}).")
            except self._ray.exceptions.RayError as error:
                raise cannot_run(error) from error
            if isinstance(result, _CannotPrepare):
                raise result.error
            self._give(actor)
            yield job, result

    def end(self) -> None:
        for actor in self._alive:
            self._ray.kill(actor)

    def _start(self) -> Any:
        actor = self._make(self._prepare, here())
        self._alive.append(actor)
        return actor

    def _give(self, actor: Any) -> None:
        for job in self._jobs:
            self._submit(actor, job, 1)
            return

    def _submit(self, actor: Any, job: Any, tries: int) -> None:
        self._running[actor.work.remote(job)] = job, tries, actor


class _CannotPrepare:
    def __init__(self, error: GridctlError) -> None:
        self.error = error


class _Actor:
    """In a worker."""

    def __init__(
        self, prepare: Callable[[], Callable[[Any], Any]], caller: tuple[str, str]
    ) -> None:
        go_to(caller)
        self._prepare = prepare
        self._work: Callable[[Any], Any] | None = None

    def work(self, job: Any) -> Any:
        if self._work is None:
            try:
                self._work = self._prepare()
            except GridctlError as error:
                return _CannotPrepare(error)
        return self._work(job)


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
