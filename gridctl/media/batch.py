"""Batches: many files, one job each; a bad one is told and the others are done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import GridctlError
from gridctl.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An input that failed, and the one line that says why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of each input: written, already there, or failed; and what to know of it."""

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    failed: tuple[Failure, ...]
    notes: tuple[str, ...] = ()


def run_batch(
    jobs: Sequence[tuple[Path, Path]],
    work: Callable[[Path, Path], bool],
    progress: Progress | None = None,
) -> BatchResult:
    """Call `work(source, target)` for each job; it returns False where nothing was to do."""
    written: list[Path] = []
    skipped: list[Path] = []
    failed: list[Failure] = []
    for done, (source, target) in enumerate(jobs):
        if progress:
            progress(done, len(jobs), source.name)
        try:
            (written if work(source, target) else skipped).append(target)
        except GridctlError as error:
            failed.append(Failure(path=source, reason=str(error)))
    if progress and jobs:
        progress(len(jobs), len(jobs), "")
    return BatchResult(written=tuple(written), skipped=tuple(skipped), failed=tuple(failed))
