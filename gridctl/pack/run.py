"""The whole run: jobs, workers, and the dataset folder that is left behind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from gridctl.errors import GridctlError, InputError
from gridctl.files import sweep_temporaries
from gridctl.geometry import Grid
from gridctl.machine.cores import num_cores
from gridctl.media.batch import BatchResult, Failure
from gridctl.media.dataset import write_metadata
from gridctl.media.fit import FitMode
from gridctl.media.grid_image import GridFormat, load_facts
from gridctl.media.provenance import METADATA
from gridctl.pack.clip import Packed, first_name, pack_clip
from gridctl.pack.options import PackOptions, Tail
from gridctl.pack.sources import Job, plan_jobs
from gridctl.pack.workers import run_jobs
from gridctl.progress import Progress


def pack(
    sources: Sequence[Path],
    output: Path,
    *,
    grid: Grid,
    sample: str = "uniform",
    stride: int = 1,
    overlap: int = 0,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    max_grids: int | None = None,
    fit: FitMode = "crop",
    background: str = "black",
    tail: Tail = "drop",
    format: GridFormat = "jpg",
    quality: int = 95,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> BatchResult:
    """Write the grid images of each clip in `sources` to the dataset folder `output`.

    A source is a video, an animation, an image, a folder of frames, or a folder of any of
    them; sub-folders such as train/ and val/ stay sub-folders. `clip.txt` beside `clip.mp4`
    travels along as the grids' content. What `PackOptions` holds is explained there.

    Grids that are there already are skipped; they are made again if their source or an
    option has changed since, or with `force`. Clips that fail are listed in the result.
    `workers` processes work at once, one for each core if it is None. `shard` (i, n) does
    every n-th clip, into sub-folders of its own. `dry_run` writes nothing: `written` then
    holds what would be.

    Raises UsageError for an option that cannot be.
    """
    options = PackOptions(
        grid=grid,
        sample=sample,
        stride=stride,
        overlap=overlap,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        max_grids=max_grids,
        fit=fit,
        background=background,
        tail=tail,
        format=format,
        quality=quality,
    )
    jobs = plan_jobs(sources, output, first_name=first_name(options), shard=shard)
    cores = workers or num_cores()
    work = partial(
        pack_clip,
        options=options,
        force=force,
        dry_run=dry_run,
        threads=max(1, cores // max(1, len(jobs))),  # a process each, unless there are too few
    )
    folders = sorted({job.folder for job in jobs})
    outcomes: dict[int, Packed | str] = {}
    if not dry_run:
        for folder in folders:
            sweep_temporaries(folder)
    tell = _Teller(progress, len(jobs))
    try:
        with closing(run_jobs(jobs, work, name=_name, workers=cores)) as done:
            for number, outcome in done:
                outcomes[number] = outcome
                tell(jobs[number], outcome)
    finally:  # the workers are gone, and some may have been at a file
        if not dry_run:
            for folder in folders:
                sweep_temporaries(folder)
    return _sum_up(jobs, [outcomes[number] for number in range(len(jobs))], write=not dry_run)


class _Teller:
    """Tells the progress in clips, and the rate in grids."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._grids = 0
        self._start = time.monotonic()
        if progress and total:
            progress(0, total, "")

    def __call__(self, job: Job, outcome: Packed | str) -> None:
        self._done += 1
        self._grids += len(outcome.written) if isinstance(outcome, Packed) else 0
        rate = self._grids / max(time.monotonic() - self._start, 1e-3)
        if self._progress:
            self._progress(self._done, self._total, f"{rate:.1f} grids/s  {job.source.name}")


def _name(job: Job) -> str:
    return str(job.source)


def _sum_up(jobs: Sequence[Job], outcomes: Sequence[Packed | str], *, write: bool) -> BatchResult:
    written: list[Path] = []
    skipped: list[Path] = []
    failed: list[Failure] = []
    notes: list[str] = []
    entries: dict[Path, dict[str, Any]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, str):
            failed.append(Failure(path=job.source, reason=outcome))
            continue
        written.extend(outcome.written)
        skipped.extend(outcome.skipped)
        notes.extend(outcome.notes)
        entries.update(zip((*outcome.written, *outcome.skipped), outcome.metadata, strict=False))
    if write:
        ours = {job.origin for job in jobs}
        for folder in sorted({path.parent for path in (*written, *skipped)}):
            try:
                images = write_metadata(folder, entries)
            except InputError as error:  # a full disk; the clips are told of all the same
                failed.append(Failure(path=folder / METADATA, reason=str(error)))
                continue
            if stale := [path for path in images if path not in entries and _source(path) in ours]:
                notes.append(
                    f"{folder} also holds {len(stale)} grids of these sources by other options, "
                    f"such as {stale[0].name}; remove them if you do not want both"
                )
    return BatchResult(
        written=tuple(written), skipped=tuple(skipped), failed=tuple(failed), notes=tuple(notes)
    )


def _source(image: Path) -> str | None:
    try:
        facts = load_facts(image)
    except GridctlError:
        return None
    return facts.source if facts else None
