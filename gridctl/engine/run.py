"""Run jobs on the engine that the profile names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from gridctl.engine import local
from gridctl.machine.devices import num_cores

Job = TypeVar("Job")
Result = TypeVar("Result")


class EngineSettings(Protocol):
    """The keys of a profile's section that choose an engine."""

    @property
    def engine(self) -> str: ...
    @property
    def ray_address(self) -> str | None: ...
    @property
    def workers(self) -> int | None: ...


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[..., Result],
    *,
    name: Callable[[Job], str],
    settings: EngineSettings,
) -> Generator[tuple[int, Result | str]]:
    """Call `work(job, tick=...)` for each of `jobs` on the engine of `settings`.

    Yields (number of the job, its result) as they finish. The result of a job that failed is the
    one line that says why: a GridctlError's message, or one that begins with `name(job)`. `work`
    calls `tick` as a sign of life. Close the generator to stop: running jobs are then ended.
    """
    if settings.engine == "ray":
        from gridctl.engine import ray

        return ray.run_jobs(
            jobs,
            work,
            name=name,
            tasks=ray.Tasks(stall_seconds=local.STALL_SECONDS),
            workers=settings.workers,
            address=settings.ray_address,
        )
    return local.run_jobs(jobs, work, name=name, workers=settings.workers or num_cores())
