"""Carrying jobs out: what is finished is skipped, the rest is drawn, checked and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.errors import GridctlError, InputError
from gridctl.files import refuse_unwritable
from gridctl.generate.job import Job, Output
from gridctl.generate.outputs import write_output
from gridctl.media.images import Frames
from gridctl.media.record import record_text
from gridctl.media.write import refuse_to_lose
from gridctl.profile import BUILT_IN
from gridctl.progress import Progress, silent

if TYPE_CHECKING:
    from gridctl.generate.checks import Checks
    from gridctl.generate.pipeline import Pipeline
    from gridctl.generate.record import Weights

OnError = Callable[[Job, GridctlError], None]

_UNCALIBRATED = (
    "the limits of the self-checks were measured on the built-in model; on {base} a check that "
    "fails is a hint to look at the clip."
)


@dataclass(frozen=True, kw_only=True)
class OutputResult:
    """A file that was written, with its checks; without them it existed and was skipped.

    `warnings` are those that no output before has.
    """

    path: Path
    checks: Checks | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The files written, in the order of their prompts, and what their checks found.

    Files that existed are skipped.
    """

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    warnings: tuple[str, ...]
    checks: dict[Path, Checks] = field(default_factory=dict)

    @classmethod
    def collect(cls, outputs: Iterable[OutputResult]) -> GenerateResult:
        """The results of `draw_stream` as `draw` returns them."""
        outputs = list(outputs)
        checks = {output.path: output.checks for output in outputs if output.checks}
        return cls(
            written=tuple(checks),
            skipped=tuple(output.path for output in outputs if not output.checks),
            warnings=tuple(dict.fromkeys(text for output in outputs for text in output.warnings)),
            checks=checks,
        )


def draw(
    jobs: Job | Sequence[Job], *, force: bool = False, progress: Progress | None = None
) -> GenerateResult:
    """Draw and write every output; the model is loaded once, each file is whole or absent.

    Several jobs share one base and adapter. All are checked before the model is loaded. Outputs
    that were made the same way before are skipped. Raises InputError without `force` for one that
    was made otherwise.
    """
    several = [jobs] if isinstance(jobs, Job) else list(jobs)
    return GenerateResult.collect(draw_stream([several], force=force, progress=progress))


def draw_stream(
    groups: Iterable[Sequence[Job]],
    *,
    force: bool = False,
    progress: Progress | None = None,
    on_error: OnError | None = None,
) -> Iterator[OutputResult]:
    """`draw` for jobs that come while others are drawn; yields an output at a time.

    The jobs of a group are checked, and their prompts encoded, together. `on_error` gets a job
    that fails, and the others are drawn. Without it the error is raised.
    """
    from gridctl.generate.record import Weights, record_of

    hashes: dict[tuple[str, str | None, Path | None], Weights] = {}

    def weights(job: Job) -> Weights:
        key = (job.profile.model.base, job.profile.model.revision, job.adapter)
        if key not in hashes:
            hashes[key] = Weights.of(job.profile, job.adapter)
        return hashes[key]

    with _Session(progress) as session:
        for group in groups:
            checked: list[tuple[Job, list[OutputResult]]] = []
            for job in group:
                hashed = weights(job)  # if this fails, no job can be done
                with _reported(job, on_error):
                    checked.append(_unfinished(job, hashed, force=force))
            session.prepare([job for job, _ in checked])
            for job, skipped in checked:
                for result in skipped:
                    yield replace(result, warnings=session.unsaid(result.warnings))
                with _reported(job, on_error):
                    for drawn in session.draw(job):
                        record = record_text(record_of(job, drawn.output, weights(job)))
                        write_output(job, drawn.output, drawn.frames, record, force=force)
                        yield OutputResult(
                            path=drawn.output.path,
                            checks=drawn.checks,
                            warnings=session.unsaid(drawn.warnings),
                        )


def render(
    jobs: Job | Sequence[Job], *, progress: Progress | None = None
) -> Iterator[tuple[Output, Frames]]:
    """Each output with its frames (F, H, W, 3); nothing is written.

    Several jobs share one base and adapter. The model is loaded when the first frames are asked
    for.
    """
    several = [jobs] if isinstance(jobs, Job) else list(jobs)
    with _Session(progress) as session:
        session.prepare(several)
        for job in several:
            for drawn in session.draw(job):
                yield drawn.output, drawn.frames


@contextmanager
def _reported(job: Job, on_error: OnError | None) -> Iterator[None]:
    """Hand an error of this job to `on_error`, if there is one."""
    try:
        yield
    except GridctlError as error:
        if on_error is None:
            raise
        on_error(job, error)


def _unfinished(job: Job, weights: Weights, *, force: bool) -> tuple[Job, list[OutputResult]]:
    """The job with the outputs that are still to be drawn, and those that are skipped.

    Raises InputError without `force` for an output that was made otherwise, and for a folder that
    cannot be written to.
    """
    from gridctl.generate.record import compare, record_of

    outputs: list[Output] = []
    skipped: list[OutputResult] = []
    for output in job.outputs:
        if not force and output.path.exists():
            found = compare(output.path, record_of(job, output, weights))
            if not found.is_same:
                raise InputError(
                    f"{output.path} exists and was not made by this prompt, seed, settings and "
                    "files; use --force to overwrite it, or another name."
                )
            skipped.append(OutputResult(path=output.path, warnings=found.warnings))
            continue
        refuse_to_lose(output.path)
        outputs.append(output)
    for folder in dict.fromkeys(output.path.parent for output in outputs):
        refuse_unwritable(folder)
    return replace(job, outputs=tuple(outputs)), skipped


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """An output with the seed that drew it, its frames (F, H, W, 3), their checks and warnings."""

    output: Output
    frames: Frames
    checks: Checks
    warnings: tuple[str, ...] = ()


class _Session:
    """Draws with a pipeline that it loads once, and frees when its context closes."""

    def __init__(self, progress: Progress | None) -> None:
        self._stack, self._progress = ExitStack(), progress or silent
        self._pipeline: Pipeline | None = None
        self._done = self._total = 0
        self._said: set[str] = set()

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Load the model, if it is not there yet, and encode the prompts of these jobs."""
        from gridctl.generate.pipeline import load_pipeline, num_sampling_steps
        from gridctl.models.base import open_base

        jobs = [job for job in jobs if job.outputs]
        if not jobs:
            return
        profile, prompts = jobs[0].profile, [prompt for job in jobs for prompt in job.prompts]
        base = self._pipeline.base if self._pipeline else open_base(profile)
        self._total += sum(num_sampling_steps(base, job) for job in jobs)
        if self._pipeline:
            self._pipeline.replace_prompts(prompts)
            return
        self._progress(self._done, self._total, "loading the model")
        self._pipeline = self._stack.enter_context(
            load_pipeline(base, profile, jobs[0].adapter, prompts)
        )

    def draw(self, job: Job) -> Iterator[_Drawn]:
        """Each output of a job that was prepared. Of several seeds it has the best checks."""
        if not job.outputs:
            return
        assert self._pipeline is not None
        warnings = [*job.warnings, *self._pipeline.warnings(job)]
        for output in job.outputs:
            best = min(self._attempts(job, output), key=lambda drawn: drawn.checks.badness)
            base = job.profile.model.base
            if best.checks.failed and base != BUILT_IN:
                warnings.append(_UNCALIBRATED.format(base=base))
            yield replace(best, warnings=tuple(warnings))

    def _attempts(self, job: Job, output: Output) -> Iterator[_Drawn]:
        """An output, drawn with as many seeds as the job asks for."""
        from gridctl.generate.checks import check_clip
        from gridctl.generate.pipeline import draw_clip

        assert self._pipeline is not None
        for seed in range(output.seed, output.seed + job.best_of):
            attempt = replace(output, seed=seed)
            frames, grids = draw_clip(self._pipeline, job, attempt, on_step=self._on_step)
            yield _Drawn(output=attempt, frames=frames, checks=check_clip(frames, grids))

    def unsaid(self, warnings: Iterable[str]) -> tuple[str, ...]:
        """Those of the warnings that no call before had, each once."""
        new = tuple(text for text in dict.fromkeys(warnings) if text not in self._said)
        self._said.update(new)
        return new

    def _on_step(self) -> None:
        self._done += 1
        self._progress(self._done, self._total, "sampling")
