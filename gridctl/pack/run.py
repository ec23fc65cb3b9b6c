"""The whole run: clips, workers, and the dataset folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gridctl.dataset.folder import METADATA_FILE, write_metadata
from gridctl.dataset.grid_image import load_metadata
from gridctl.engine.run import run_jobs
from gridctl.errors import GridctlError, InputError, UsageError, counted
from gridctl.files import refuse_unwritable, sweep_temporaries
from gridctl.machine.devices import num_cores
from gridctl.pack.clip import Packed, first_name, pack_clip
from gridctl.pack.export import check_export, export
from gridctl.pack.options import PackOptions
from gridctl.pack.sources import Found, SourceClip, find_clips
from gridctl.pack.summary import PackResult, Summary
from gridctl.profile import Profile
from gridctl.progress import Failure, Progress
from gridctl.storage import Url


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
    has changed, or with `force`. Clips that fail are listed in the result. `shard` (i, n) packs
    every n-th clip into a sub-folder. `dry_run` writes nothing: `written` then holds what would
    be written.

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
    if exports:
        check_export(profile.pack, shard)
    found = find_clips(sources, output, first_name=first_name(options), shard=shard)
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
    outcomes: dict[int, Packed | str] = {}
    if not dry_run:
        refuse_unwritable(output)
        for folder in folders:
            sweep_temporaries(folder)
    report = _Report(progress, len(clips))
    try:
        with closing(run_jobs(clips, work, name=_name, settings=profile.pack)) as done:
            for number, outcome in done:
                outcomes[number] = outcome
                report(clips[number], outcome)
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


class _Report:
    """Reports progress in clips, and the rate in grids."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._grids = 0
        self._start = time.monotonic()
        if progress and total:
            progress(0, total, "")

    def __call__(self, clip: SourceClip, outcome: Packed | str) -> None:
        self._done += 1
        self._grids += len(outcome.written) if isinstance(outcome, Packed) else 0
        rate = self._grids / max(time.monotonic() - self._start, 1e-3)
        if self._progress:
            self._progress(self._done, self._total, f"{rate:.1f} grids/s  {clip.path.name}")


def _name(clip: SourceClip) -> str:
    return str(clip.path)


def _sum_up(found: Found, outcomes: Sequence[Packed | str], *, write: bool) -> PackResult:
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
    summaries = [o.summary for o in outcomes if isinstance(o, Packed) and o.summary is not None]
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
