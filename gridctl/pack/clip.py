"""One clip: frames in, grid images out, one after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.dataset.folder import metadata_entry
from gridctl.dataset.grid_image import load_metadata, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError, InputError
from gridctl.geometry import Grid
from gridctl.media.clip import Clip, Ordinals, Tick, WrongIndexError
from gridctl.media.fit import Fit
from gridctl.media.images import Picture, image_files
from gridctl.media.open import open_clip
from gridctl.media.truncation import is_cut_off
from gridctl.pack.frames import (
    Selection,
    SelectionError,
    find_cuts,
    frames_in_range,
    select_windows,
)
from gridctl.pack.options import PackOptions
from gridctl.pack.sources import InputClip, read_sidecar
from gridctl.storage import is_remote

SUGGESTED_FPS = 8.0


@dataclass(frozen=True, kw_only=True)
class ClipSummary:
    """Number, rate and length of the grids of one clip, for the summary of a run."""

    grids: int
    fps: float
    """The rate of their frames, in the clip's own time."""
    seconds_per_grid: float
    cropped: float | None
    """The share of each frame that is cut off, 0 to 1. None if no frame was read."""
    grids_at_suggested_fps: int


@dataclass(frozen=True, kw_only=True)
class PackedClip:
    """The grids of one clip: those written, those that were there already, and notes."""

    summary: ClipSummary
    written: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    metadata: tuple[dict[str, Any], ...] = ()
    """The entry in metadata.jsonl of each written, then of each skipped grid."""


def pack_clip(
    source: InputClip,
    *,
    options: PackOptions,
    force: bool = False,
    dry_run: bool = False,
    threads: int = 1,
    tick: Tick,
) -> PackedClip:
    """Write the grids of one clip that are not there yet.

    `dry_run` writes nothing. `written` then holds what would be written. Raises InputError for a
    clip that cannot be packed, or if other files have the names of its grids.
    """
    text = read_sidecar(source.path)
    made_from = fingerprint(source.path, options, text)
    done = [] if force else finished(source, options, made_from)
    if done:
        grids = [metadata for _, metadata in done]
        end = grids[-1].times_seconds[-1] + 1 / grids[-1].fps
        return PackedClip(
            skipped=tuple(path for path, _ in done),
            metadata=tuple(metadata_entry(path, metadata) for path, metadata in done),
            summary=ClipSummary(
                grids=len(grids),
                fps=grids[0].fps,
                seconds_per_grid=grids[0].num_frames / grids[0].fps,
                cropped=None,
                grids_at_suggested_fps=_suggested(end - grids[0].times_seconds[0], options),
            ),
        )
    cropped: list[float] = []
    fit = replace(options.fit(), on_crop=cropped.append)
    for decode in (False, True):
        try:
            clip = open_clip(source.path, decode=decode, threads=threads, tick=tick)
            selection = _select(clip, source, options)
            names = [target(source, options, number) for number in range(len(selection.windows))]
            refuse_foreign(names, source, force=force)
            entries = []
            if not dry_run:
                metadata = _metadata(clip, selection, source, options, text, made_from)
                images = compose_windows(clip, selection.windows, options.grid, fit)
                quality = options.settings.quality
                for path, image, known in zip(names, images, metadata, strict=True):
                    save_grid(image, path, known, quality=quality, force=True, durable=False)
                    entries.append(metadata_entry(path, known))
            break
        except WrongIndexError:
            continue  # its packets announced other frames than it has, so decode all of it
    else:
        raise InputError(f"{source.path} changed while it was read; run the command again.")
    notes = [f"{source.path} {note}" for note in clip.notes()]
    if selection.dropped:
        notes.append(
            f"{source.path} has {selection.dropped} of {selection.count} frames left over that "
            "fill no grid; they are left out (--tail pad keeps them)"
        )
    settings = options.settings
    seconds = min(clip.duration_seconds, settings.end or clip.duration_seconds) - settings.start
    return PackedClip(
        written=tuple(names),
        notes=tuple(notes),
        metadata=tuple(entries),
        summary=ClipSummary(
            grids=len(selection.windows),
            fps=selection.fps,
            seconds_per_grid=len(selection.windows[0]) / selection.fps,
            cropped=max(cropped, default=None),
            grids_at_suggested_fps=_suggested(seconds, options),
        ),
    )


def target(source: InputClip, options: PackOptions, number: int) -> Path:
    """The file of grid `number` of a clip, from 0 on."""
    return source.folder / options.first_name(number).format(source.name)


def fingerprint(path: Path, options: PackOptions, text: str | None) -> str:
    """Digest of all that a clip's grids are made from. A grid with another digest is made again.

    The size and time of each source file stand for its content. Raises InputError for a
    source that cannot be read.
    """
    try:
        files = image_files(path) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the name.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its name and permissions."
        ) from error
    known = [
        [file.name, stat.st_size, stat.st_mtime_ns] for file, stat in zip(files, stats, strict=True)
    ]
    content = json.dumps([options.metadata(), known, text], sort_keys=True)
    return hashlib.sha256(content.encode(errors="replace")).hexdigest()[:16]


def finished(
    source: InputClip, options: PackOptions, made_from: str
) -> list[tuple[Path, GridMetadata]]:
    """Grids of the clip with their metadata, if each exists and would come out the same."""
    grids: list[tuple[Path, GridMetadata]] = []
    for number in count():
        path = target(source, options, number)
        metadata = None
        with suppress(GridctlError):
            metadata = load_metadata(path)
        if metadata is None or metadata.made_from != made_from or metadata.part is None:
            return []
        if not is_remote(path) and is_cut_off(path):  # on a disk that was full
            return []
        grids.append((path, metadata))
        if number + 1 == metadata.part[1]:
            break
    return grids


def refuse_foreign(names: Sequence[Path], source: InputClip, *, force: bool) -> None:
    """Raise InputError if an image that is not a grid of this clip has one of these names."""
    for path in names:
        if not path.exists() or path.stat().st_size == 0:
            continue
        metadata = None
        with suppress(GridctlError):
            metadata = load_metadata(path)
        if metadata is not None and metadata.source != source.origin:
            raise InputError(
                f"{path} is the grid of {metadata.source} and is not overwritten; use another -o."
            )
        if metadata is None and not force:
            raise InputError(
                f"{path} exists and is not a grid that gridctl made; use --force, or another -o."
            )


def _select(clip: Clip, source: InputClip, options: PackOptions) -> Selection:
    cuts: list[int] = []
    try:
        if options.mode == "scenes":
            cuts = find_cuts(clip, frames_in_range(clip.times_seconds, options))
        return select_windows(clip.times_seconds, clip.duration_seconds, clip.fps, options, cuts)
    except SelectionError as error:
        raise InputError(f"{source.path} {error}") from error


def _metadata(
    clip: Clip,
    selection: Selection,
    source: InputClip,
    options: PackOptions,
    text: str | None,
    made_from: str,
) -> Iterator[GridMetadata]:
    """The metadata of each grid, made one by one: a long clip has many grids."""
    windows = zip(selection.windows, selection.shared, strict=True)
    for number, (window, shared) in enumerate(windows, 1):
        yield GridMetadata(
            grid=options.grid,
            source=source.origin,
            times_seconds=tuple(round(float(t), 6) for t in clip.times_seconds[window]),
            fps=selection.fps,
            num_frames=len(window),
            text=text,
            part=(number, len(selection.windows)),
            shared=shared,
            made_from=made_from,
        )


def _suggested(seconds: float, options: PackOptions) -> int:
    """The number of grids at SUGGESTED_FPS."""
    return int(seconds * SUGGESTED_FPS) // options.grid.num_frames


def compose_windows(
    clip: Clip, windows: Sequence[Ordinals], grid: Grid, fit: Fit
) -> Iterator[Picture]:
    """The grid image (H, W, 3) of each window, in order. The last frame fills empty cells.

    The first frames of `windows` rise. Only windows that share frames are in memory together.
    """
    boxes = grid.boxes()
    width, height = grid.image_size
    wanted = np.unique(np.concatenate(windows))
    waiting = iter(windows)
    following = next(waiting, None)
    open_windows: list[tuple[Ordinals, Picture]] = []
    for number, cell in zip(map(int, wanted), clip.cells(wanted, fit), strict=True):
        while following is not None and following[0] <= number:
            planes = np.empty((3, height, width), np.uint8)  # the layout that video cells have
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
