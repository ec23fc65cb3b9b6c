"""One clip: its frames in, its grid images out, one after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.errors import GridctlError, InputError
from gridctl.geometry import Grid
from gridctl.media.clip import Clip, Ordinals, Tick, WrongIndexError, open_clip
from gridctl.media.dataset import metadata_entry, read_text
from gridctl.media.facts import Facts
from gridctl.media.fit import Fit
from gridctl.media.grid_image import load_facts, save_grid
from gridctl.media.read import Picture, image_files
from gridctl.pack.options import PackOptions
from gridctl.pack.sample import Plan, plan_clip, select
from gridctl.pack.scenes import find_cuts
from gridctl.pack.sources import Job, sidecar


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What became of a clip: its grids, those that were there already, and what to know."""

    written: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    metadata: tuple[dict[str, Any], ...] = ()
    """The entry in metadata.jsonl of each written, then of each skipped grid."""


def pack_clip(
    job: Job,
    *,
    options: PackOptions,
    force: bool = False,
    dry_run: bool = False,
    threads: int = 1,
    tick: Tick,
) -> Packed:
    """Write the grids of one clip that are not there yet.

    `dry_run` writes nothing; `written` then holds what would be. Raises InputError for a clip
    that cannot be packed, or whose grids' names are taken by something else.
    """
    text = read_text(sidecar(job.source))
    made_from = fingerprint(job.source, options, text)
    done = [] if force else finished(job, options, made_from)
    if done:
        entries = [metadata_entry(path, facts) for path, facts in done]
        return Packed(skipped=tuple(path for path, _ in done), metadata=tuple(entries))
    for decode in (False, True):
        try:
            clip = open_clip(job.source, decode=decode, threads=threads, tick=tick)
            plan = _plan(clip, job, options)
            names = [target(job, options, number) for number in range(len(plan.windows))]
            refuse_foreign(names, job, force=force)
            entries = []
            if not dry_run:
                facts = _facts(clip, plan, job, options, text, made_from)
                images = compose_windows(clip, plan.windows, options.grid, options.frame_fit())
                for path, image, known in zip(names, images, facts, strict=True):
                    save_grid(
                        image, path, known, quality=options.quality, force=True, durable=False
                    )
                    entries.append(metadata_entry(path, known))
            break
        except WrongIndexError:
            continue  # its packets promised other frames than it has: begin again, by decoding
    else:
        raise InputError(f"{job.source} changed while it was read; run the command again.")
    notes = [f"{job.source} {note}" for note in clip.notes()]
    if plan.dropped:
        notes.append(
            f"{job.source} has {plan.dropped} of {plan.count} frames left over that fill no grid; "
            "they are left out (--tail pad keeps them)"
        )
    return Packed(
        written=tuple(names),
        notes=tuple(notes),
        metadata=tuple(entries),
    )


def target(job: Job, options: PackOptions, number: int) -> Path:
    """The grid image `number` of a clip, from 0 on; uniform sampling makes a single one."""
    return job.folder / f"{first_name(options, number).format(job.name)}"


def first_name(options: PackOptions, number: int = 0) -> str:
    """What a clip named {} calls its first grid (or another `number`)."""
    suffix = "" if options.mode == "uniform" else f"_{number + 1:04}"
    return "{}" + f"{suffix}.{options.format}"


def fingerprint(source: Path, options: PackOptions, text: str | None) -> str:
    """What a finished grid must have been made from, so as not to be made again.

    The size and time of each source file stand for its content. Raises InputError for a
    source that cannot be read.
    """
    try:
        files = image_files(source) if source.is_dir() else [source]
        stats = [path.stat() for path in files]
    except FileNotFoundError:
        raise InputError(f"{source} does not exist; check the name.") from None
    except OSError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}); check its name and rights."
        ) from error
    known = [
        [path.name, stat.st_size, stat.st_mtime_ns] for path, stat in zip(files, stats, strict=True)
    ]
    told = json.dumps([asdict(options), known, text], sort_keys=True)
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16]


def finished(job: Job, options: PackOptions, made_from: str) -> list[tuple[Path, Facts]]:
    """All grids of the clip with their facts, if each is there and would be made the same."""
    grids: list[tuple[Path, Facts]] = []
    for number in count():
        path = target(job, options, number)
        facts = None
        with suppress(GridctlError):
            facts = load_facts(path) if path.exists() else None
        if facts is None or facts.made_from != made_from or facts.part is None:
            return []
        grids.append((path, facts))
        if number + 1 == facts.part[1]:
            break
    return grids


def refuse_foreign(names: Sequence[Path], job: Job, *, force: bool) -> None:
    """Raise InputError if a name is taken by an image that is not a grid of this clip."""
    for path in names:
        if not path.exists() or path.stat().st_size == 0:
            continue
        facts = None
        with suppress(GridctlError):
            facts = load_facts(path)
        if facts is not None and facts.source != job.origin:
            raise InputError(
                f"{path} is the grid of {facts.source} and is not overwritten; use another -o."
            )
        if facts is None and not force:
            raise InputError(
                f"{path} exists and is no grid that gridctl made; use --force, or another -o."
            )


def _plan(clip: Clip, job: Job, options: PackOptions) -> Plan:
    cuts: list[int] = []
    try:
        if options.mode == "scenes":
            cuts = find_cuts(clip, select(clip.times_seconds, options))
        return plan_clip(clip.times_seconds, clip.fps, options, cuts)
    except InputError as error:
        if str(error).startswith("has "):
            raise InputError(f"{job.source} {error}") from error
        raise


def _facts(
    clip: Clip, plan: Plan, job: Job, options: PackOptions, text: str | None, made_from: str
) -> Iterator[Facts]:
    """The facts of each grid, made as they are asked for: a long clip has many grids."""
    for number, (window, shared) in enumerate(zip(plan.windows, plan.shared, strict=True), 1):
        yield Facts(
            grid=options.grid,
            source=job.origin,
            times_seconds=tuple(round(float(t), 6) for t in clip.times_seconds[window]),
            fps=plan.fps,
            num_frames=len(window),
            text=text,
            part=(number, len(plan.windows)),
            shared=shared,
            made_from=made_from,
        )


def compose_windows(
    clip: Clip, windows: Sequence[Ordinals], grid: Grid, fit: Fit
) -> Iterator[Picture]:
    """The grid image (H, W, 3) of each window, in order; the last frame fills empty cells.

    `windows` begin in rising order. Only those that share frames are in memory together.
    """
    boxes = grid.boxes()
    width, height = grid.image_size
    wanted = np.unique(np.concatenate(windows))
    waiting = iter(windows)
    following = next(waiting, None)
    open_windows: list[tuple[Ordinals, Picture]] = []
    for number, cell in zip(map(int, wanted), clip.cells(wanted, fit), strict=True):
        while following is not None and following[0] <= number:
            planes = np.empty((3, height, width), np.uint8)  # as cells of a video lie in memory
            open_windows.append((following, planes.transpose(1, 2, 0)))
            following = next(waiting, None)
        for window, image in open_windows:
            for place in np.flatnonzero(window == number):
                image[boxes[place].slices] = cell
        while open_windows and open_windows[0][0][-1] <= number:
            window, image = open_windows.pop(0)
            for box in boxes[len(window) :]:
                image[box.slices] = cell
            yield image
