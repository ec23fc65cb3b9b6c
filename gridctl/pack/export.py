"""Export: the packed folder again as shards beside it, each written as a job of the engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path, PurePath

from gridctl.dataset.shards import (
    MEGABYTE,
    SUFFIXES,
    Shard,
    import_parquet,
    made_from_of,
    plan_shards,
    write_shard,
)
from gridctl.engine.run import run_jobs
from gridctl.errors import UsageError, counted
from gridctl.files import entries
from gridctl.profile import PackSection
from gridctl.progress import Failure, FilesResult, Progress, silent


def check_export(settings: PackSection, shard: tuple[int, int] | None) -> None:
    """Raise UsageError if an export cannot work, before anything is packed."""
    if shard is not None:
        raise UsageError(
            f"--to {settings.to} exports a whole dataset, and --shard packs a part; run it without "
            "--shard when all parts are done."
        )
    if settings.to == "parquet":
        import_parquet()


def export(
    folder: Path, settings: PackSection, *, force: bool = False, progress: Progress | None = None
) -> FilesResult:
    """Write all grids and captions of a dataset folder as shards, into a folder beside it.

    The folder is called `vidgrid-webdataset` or `vidgrid-parquet`. Shards that are there already
    are skipped. Those of an earlier export that are no part of this one are removed, because
    readers would see their grids twice.
    """
    if settings.to == "folder":
        raise ValueError("a folder is not exported.")
    output = folder.with_name(f"{folder.absolute().name}-{settings.to}")
    shards = plan_shards(folder, output, settings.to, settings.max_shard_megabytes * MEGABYTE)
    outcomes: dict[int, bool | str] = {}
    report = progress or silent
    jobs = run_jobs(shards, partial(_write, force=force), name=_name, settings=settings)
    with closing(jobs):
        for number, outcome in jobs:
            outcomes[number] = outcome
            report(len(outcomes), len(shards), shards[number].path.name)
    failed = [
        Failure(path=shard.path, reason=outcome)
        for number, shard in enumerate(shards)
        if isinstance(outcome := outcomes[number], str)
    ]
    notes = []
    if not failed and (old := _leftovers(output, SUFFIXES[settings.to], shards)):
        for path in old:
            path.unlink()
        notes.append(f"{output} had {counted(len(old), 'file')} of an earlier export, now removed")
    return FilesResult(
        written=tuple(s.path for k, s in enumerate(shards) if outcomes[k] is True),
        skipped=tuple(s.path for k, s in enumerate(shards) if outcomes[k] is False),
        failed=tuple(failed),
        notes=tuple(notes),
    )


def _write(shard: Shard, *, force: bool, tick: Callable[[], None]) -> bool:
    tick()
    return write_shard(shard, force=force)


def _name(shard: Shard) -> str:
    return str(shard.path)


def _leftovers(output: Path, suffix: str, shards: list[Shard]) -> list[Path]:
    ours = {shard.path for shard in shards}
    there = (path for path in sorted(entries(output)[1]) if path not in ours)
    found = (path for path in there if PurePath(path.name).match(f"*-of-*{suffix}"))
    return [path for path in found if made_from_of(path) is not None]
