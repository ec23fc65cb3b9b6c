"""The whole run: clips, workers, the dataset folder, its export, and a summary."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from gridctl.dataset.folder import METADATA_FILE, write_metadata
from gridctl.dataset.grid_image import load_metadata
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
from gridctl.errors import GridctlError, InputError, UsageError, counted
from gridctl.files import entries, refuse_unwritable, sweep_temporaries
from gridctl.machine.devices import num_cores
from gridctl.pack.clip import SUGGESTED_FPS, ClipSummary, PackedClip, pack_clip
from gridctl.pack.options import PackOptions
from gridctl.pack.sources import Found, find_clips
from gridctl.profile import PackSection, Profile
from gridctl.progress import Failure, FilesResult, Progress, silent
from gridctl.storage import Url

SLOW_FPS = 4.0  # below, motion from frame to frame looks like a slideshow


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Medians over clips, the range of rates, and the mean share that is cut off."""

    clips: int
    slow_clips: int
    """Clips whose grids are below SLOW_FPS."""
    grids: int
    fps: float
    slowest_fps: float
    fastest_fps: float
    seconds_per_grid: float
    cropped: float | None
    grids_at_suggested_fps: int

    @classmethod
    def of(cls, clips: Sequence[ClipSummary]) -> Summary | None:
        """Summarize some clips. None if there are none."""
        if not clips:
            return None
        rates = [clip.fps for clip in clips]
        cropped = [clip.cropped for clip in clips if clip.cropped is not None]
        return cls(
            clips=len(clips),
            slow_clips=sum(rate < SLOW_FPS for rate in rates),
            grids=sum(clip.grids for clip in clips),
            fps=round(statistics.median(rates), 3),
            slowest_fps=min(rates),
            fastest_fps=max(rates),
            seconds_per_grid=round(statistics.median(c.seconds_per_grid for c in clips), 3),
            cropped=round(statistics.fmean(cropped), 3) if cropped else None,
            grids_at_suggested_fps=sum(clip.grids_at_suggested_fps for clip in clips),
        )

    def __str__(self) -> str:
        low, middle, high = (f"{x:.3g}" for x in (self.slowest_fps, self.fps, self.fastest_fps))
        spread = "" if low == high else f" ({low} to {high})"
        text = (
            f"{counted(self.grids, 'grid')}: {middle} frames a second{spread}, "
            f"{self.seconds_per_grid:.3g} seconds per grid"
        )
        if self.cropped:
            text += f", {self.cropped:.0%} of each frame cropped"
        return text

    def warning(self) -> str | None:
        """Warn of motion that is too coarse to learn from, and say what to do."""
        if not self.slow_clips:
            return None
        return (
            f"{self.slow_clips:,} of {counted(self.clips, 'clip')} give grids below "
            f"{SLOW_FPS:g} frames a second, from which an adapter learns slideshows; --sample "
            f"fps={SUGGESTED_FPS:g} makes about {counted(self.grids_at_suggested_fps, 'grid')} of "
            "these clips"
        )


@dataclass(frozen=True, kw_only=True)
class PackResult(FilesResult):
    """The outcome for each clip, and a summary of the grids if there are any."""

    summary: Summary | None = None


def pack(
    sources: Sequence[Path],
    output: Path,
    profile: Profile | None = None,
    *,
    shard: tuple[int, int] | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PackResult:
    """Write the grid images of each clip in `sources` to the dataset folder `output`.

    A source is a video, an animation, an image, a folder of frames, or a folder of any of
    them. Sub-folders such as train/ and val/ stay sub-folders. The text in `clip.txt` beside
    `clip.mp4` becomes the content of the grids' captions. `profile` has the grid and the
    settings of `[pack]`; without it they are the defaults.

    Grids that are there already are skipped. They are made again if their source or a setting
    has changed, or with `force`. Clips that fail are listed in the result. `shard` (i, n) packs the
    i-th of n parts of the clips, counted from 1, into a sub-folder; neither the order of `sources`
    nor that of a listing changes the parts. `dry_run` writes nothing: `written` then holds what
    would be written.

    With `pack.to` the whole folder is also exported as shards, with the captions it has by then.

    Raises UsageError for settings that do not fit together, InputError if `output` cannot be
    written.
    """
    profile = profile or Profile()
    options = PackOptions.of(profile)
    if isinstance(output, Url):
        output.refuse_unwritable()
        if output.scheme == "memory":
            raise UsageError(
                f"{output} is the memory of this process, but pack writes from others; use "
                "another -o."
            )
    exports = profile.pack.to != "folder"
    if exports and shard is not None:
        raise UsageError(
            f"--to {profile.pack.to} exports a whole dataset, and --shard packs a part; run it "
            "without --shard when all parts are done."
        )
    if profile.pack.to == "parquet":
        import_parquet()
    found = find_clips(sources, output, first_name=options.first_name(), shard=shard)
    clips = found.clips
    cores = profile.pack.workers or num_cores()
    work = partial(
        pack_clip,
        options=options,
        force=force,
        dry_run=dry_run,
        threads=max(1, cores // max(1, len(clips))),  # one process per clip, if there are enough
    )
    folders = sorted({clip.folder for clip in clips})
    outcomes: dict[int, PackedClip | str] = {}
    if not dry_run:
        refuse_unwritable(output)
        for folder in folders:
            sweep_temporaries(folder)
    report, grids, started = progress or silent, 0, time.monotonic()
    try:
        with closing(run_jobs(clips, work, name=_path, settings=profile.pack)) as done:
            if clips:
                report(0, len(clips), "")
            for number, outcome in done:
                outcomes[number] = outcome
                grids += len(outcome.written) if isinstance(outcome, PackedClip) else 0
                rate = grids / max(time.monotonic() - started, 1e-3)
                about = f"{rate:.1f} grids/s  {clips[number].path.name}"
                report(len(outcomes), len(clips), about)
    finally:  # the workers have ended, and some may have left half a file
        if not dry_run:
            for folder in folders:
                sweep_temporaries(folder)
    result = _sum_up(found, [outcomes[number] for number in range(len(clips))], write=not dry_run)
    if not exports or dry_run or not (result.written or result.skipped):
        return result
    also = export(output, profile.pack, force=force, progress=progress)
    return replace(
        result,
        written=result.written + also.written,
        skipped=result.skipped + also.skipped,
        failed=result.failed + also.failed,
        notes=result.notes + also.notes,
    )


def _sum_up(found: Found, outcomes: Sequence[PackedClip | str], *, write: bool) -> PackResult:
    written: list[Path] = []
    skipped: list[Path] = []
    failed: list[Failure] = []
    notes: list[str] = [*found.notes]
    entries: dict[Path, dict[str, Any]] = {}
    for clip, outcome in zip(found.clips, outcomes, strict=True):
        if isinstance(outcome, str):
            failed.append(Failure(path=clip.path, reason=outcome))
            continue
        written.extend(outcome.written)
        skipped.extend(outcome.skipped)
        notes.extend(outcome.notes)
        entries.update(zip((*outcome.written, *outcome.skipped), outcome.metadata, strict=False))
    if write:
        ours = {clip.origin for clip in found.clips}
        for folder in sorted({path.parent for path in (*written, *skipped)}):
            try:
                images = write_metadata(folder, entries)
            except InputError as error:  # a full disk must not hide what became of the clips
                failed.append(Failure(path=folder / METADATA_FILE, reason=str(error)))
                continue
            if stale := [path for path in images if path not in entries and _source(path) in ours]:
                notes.append(
                    f"{folder} also holds {counted(len(stale), 'grid')} of these sources made with "
                    f"other options, such as {stale[0].name}; remove them if you do not want both"
                )
    summaries = [o.summary for o in outcomes if isinstance(o, PackedClip)]
    return PackResult(
        written=tuple(written),
        skipped=tuple(skipped),
        failed=tuple(failed),
        notes=tuple(notes),
        summary=Summary.of(summaries),
    )


def _source(image: Path) -> str | None:
    try:
        metadata = load_metadata(image)
    except GridctlError:
        return None
    return metadata.source if metadata else None


def export(
    folder: Path, settings: PackSection, *, force: bool = False, progress: Progress | None = None
) -> FilesResult:
    """Write all grids and captions of a dataset folder as shards, into a folder beside it.

    The folder is called `vidgrid-webdataset` or `vidgrid-parquet`. Existing shards are skipped.
    Shards of an earlier export that are not part of this one are removed, because readers would
    see their grids twice.
    """
    assert settings.to != "folder"
    output = folder.with_name(f"{folder.absolute().name}-{settings.to}")
    shards = plan_shards(folder, output, settings.to, settings.max_shard_megabytes * MEGABYTE)
    outcomes: dict[int, bool | str] = {}
    report = progress or silent
    jobs = run_jobs(shards, partial(_write, force=force), name=_path, settings=settings)
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


def _path(job: Any) -> str:
    return str(job.path)


def _leftovers(output: Path, suffix: str, shards: list[Shard]) -> list[Path]:
    ours = {shard.path for shard in shards}
    there = (path for path in sorted(entries(output)[1]) if path not in ours)
    found = (path for path in there if PurePath(path.name).match(f"*-of-*{suffix}"))
    return [path for path in found if made_from_of(path) is not None]
