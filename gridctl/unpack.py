"""Unpack: grid images → clips or folders of frames; the grids of one clip are joined."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.files import refuse_overwrite
from gridctl.geometry import CELL_MULTIPLE, Grid, Order
from gridctl.media.batch import BatchResult, Failure
from gridctl.media.dataset import list_grids
from gridctl.media.facts import Facts
from gridctl.media.grid_image import load_facts, load_grid, split
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture
from gridctl.media.seams import find_layout
from gridctl.media.write import (
    ClipFormat,
    check_codec,
    check_fps,
    clip_format,
    clip_suffix,
    write_clip,
)
from gridctl.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Source:
    """A grid image, and its facts if it has any; its fault, if it cannot be read."""

    path: Path
    facts: Facts | None = None
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """The grids of one clip in order, and the clip's name, a / after that of a folder."""

    sources: tuple[Source, ...]
    target: str
    named: bool
    """Whether the user named the clip; else it was derived from the grid's name."""


def unpack(
    sources: Sequence[Path],
    output: Path | str,
    *,
    rows: int | None = None,
    cols: int | None = None,
    order: Order = "row-major",
    detect: bool = False,
    fps: float | None = None,
    format: ClipFormat = "mp4",
    codec: str | None = None,
    crf: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> BatchResult:
    """Write the clip of each grid image; cells that were padding are left out.

    Grids that pack made from one clip become one clip again, in order, without the frames
    that they share. A single clip goes to `output` if that is named like one. Else clips go
    into the folder `output`, as `format`, each under its grid's name; what is there already
    is skipped. `rows`, `cols` and `order` are for images without facts; `detect` finds the
    first two by the seams and tells in the notes how sure it is. `fps` is for another rate
    than the facts'.

    Raises UsageError for an unknown suffix, codec or rate, or two clips of one name;
    InputError if a folder holds no image.
    """
    if fps is not None:
        check_fps(fps)
    if format not in get_args(ClipFormat):
        raise UsageError(f"format {format!r} is unknown; choose {', '.join(get_args(ClipFormat))}.")
    jobs = plan_jobs(sources, output, format)
    for kind in {clip_format(job.target, format) for job in jobs}:
        check_codec(kind, codec, crf)
    written: list[Path] = []
    skipped: list[Path] = []
    failed: list[Failure] = []
    notes: list[str] = []
    reader = _Reader(rows, cols, order, detect=detect, note=notes.append)
    for done, job in enumerate(jobs):
        if progress:
            progress(done, len(jobs), job.sources[0].path.name)
        target = Path(job.target)
        try:
            if not job.named and target.exists() and not force:
                skipped.append(target)
                continue
            refuse_overwrite(target, force=force)
            rate = fps or reader.rate(job)
            frames = reader.frames(job)
            write_clip(
                frames, job.target, fps=rate, format=format, codec=codec, crf=crf, force=force
            )
            written.append(target)
        except GridctlError as error:
            failed.append(Failure(path=job.sources[0].path, reason=str(error)))
    if progress and jobs:
        progress(len(jobs), len(jobs), "")
    return BatchResult(
        written=tuple(written), skipped=tuple(skipped), failed=tuple(failed), notes=tuple(notes)
    )


def plan_jobs(sources: Sequence[Path], output: Path | str, format: ClipFormat) -> list[Job]:
    """A job for each clip that `sources`, grid images and folders of them, hold.

    Raises UsageError for two clips of one name, and for one name for several clips.
    """
    clips: dict[object, list[tuple[Source, Path]]] = {}
    for source in sources:
        root = source if source.is_dir() else source.parent
        for path in list_grids(source) if source.is_dir() else [source]:
            grid = _open(path)
            clips.setdefault(_clip_of(grid), []).append((grid, root))
    many = len(clips) > 1 or any(source.is_dir() for source in sources)
    if not many:
        (grids,) = clips.values()
        clip_format(output, format)
        return [Job(sources=_in_order(grids), target=str(output), named=True)]
    if suffix := re.search(r"\.(mp4|webm|gif|webp|apng)$", str(output), re.IGNORECASE):
        raise UsageError(
            f"{output} names one clip, but a folder or several grids become many; "
            f"use -o {Path(output).stem}/ --format {suffix[1].lower()}."
        )
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}
    for grids in clips.values():
        grid, root = grids[0]
        name = grid.path.stem
        if grid.facts and grid.facts.part and grid.facts.part[1] > 1:
            name = re.sub(r"_\d{4,}$", "", name)
        target = Path(output) / grid.path.relative_to(root).parent / (name + clip_suffix(format))
        if target in taken:  # vid1.jpg and vid1.png, or two folders with a vid1
            raise UsageError(
                f"{grid.path} and {taken[target]} would both become {target}; another grid "
                "needs another folder, so unpack them apart."
            )
        taken[target] = grid.path
        slash = "" if clip_suffix(format) else "/"  # frames of take.1 → take.1/
        jobs.append(Job(sources=_in_order(grids), target=f"{target}{slash}", named=False))
    return jobs


def _open(path: Path) -> Source:
    try:
        return Source(path=path, facts=load_facts(path))
    except InputError as error:
        return Source(path=path, fault=str(error))


def _clip_of(grid: Source) -> object:
    """What grids of one clip, packed in one go, have in common."""
    facts = grid.facts
    if facts is None or facts.part is None or facts.part[1] == 1:
        return grid.path
    return facts.source, facts.made_from, facts.part[1], grid.path.parent, grid.path.suffix


def _in_order(grids: Sequence[tuple[Source, Path]]) -> tuple[Source, ...]:
    found = {grid.path: grid for grid, _ in grids}  # one that was named twice counts once
    return tuple(
        sorted(found.values(), key=lambda g: g.facts.part if g.facts and g.facts.part else (0, 0))
    )


class _Reader:
    """Reads the frames of a job's grids, and tells what is odd about them."""

    def __init__(
        self,
        rows: int | None,
        cols: int | None,
        order: Order,
        *,
        detect: bool,
        note: Callable[[str], None],
    ) -> None:
        self._rows = rows
        self._cols = cols
        self._order = order
        self._detect = detect
        self._note = note

    def rate(self, job: Job) -> float:
        """The frames per second that the facts say."""
        facts = job.sources[0].facts
        return facts.fps if facts else IMAGE_SEQUENCE_FPS

    def frames(self, job: Job) -> Iterator[Picture]:
        """The real frames of all grids, one after the other, those that are shared once."""
        parts = [grid.facts.part for grid in job.sources if grid.facts and grid.facts.part]
        if parts and len(parts) < parts[0][1]:
            self._note(
                f"{job.target} is made of {len(parts)} of the {parts[0][1]} grids of its clip"
            )
        pictures = self._join(job.sources)
        first = next(pictures)  # so that a fault shows before anything is written
        return itertools.chain([first], pictures)

    def _join(self, sources: Sequence[Source]) -> Iterator[Picture]:
        before, last = 0, -1.0  # the number of the grid before, and its last frame's time
        for grid in sources:
            if grid.fault is not None:
                raise InputError(grid.fault)
            image, facts = load_grid(grid.path)
            if facts is None:
                yield from split(image, self._told(image, grid.path))
                continue
            frames = split(image, facts.grid)
            number, size = facts.part[0] if facts.part else 1, facts.grid.num_frames
            # A frame may be there twice by itself, at a rate above the clip's: its time does not
            # tell. Where grids between these two are missing, fewer frames are shared.
            shared = size - (number - before) * (size - facts.shared)
            real = zip(itertools.count(), frames, facts.times_seconds, strict=False)
            for place, frame, seconds in real:
                if place >= shared or seconds > last:
                    yield frame
            before, last = number, facts.times_seconds[-1]

    def _told(self, image: Picture, path: Path) -> Grid:
        """The grid of an image without facts."""
        rows, cols = self._rows, self._cols
        height, width = image.shape[:2]
        if self._detect and (rows is None or cols is None):
            found = find_layout(image)
            sure = f"{found.rows}x{found.cols} cells, {found.confidence:.0%} sure"
            if not found.is_sure:
                raise InputError(f"{path} shows no clear seams ({sure}); say --rows and --cols.")
            self._note(f"{path} has {sure} by its seams")
            rows, cols = rows or found.rows, cols or found.cols
        if rows is None or cols is None:
            raise InputError(
                f"{path} has no gridctl facts, so its grid is unknown; say --rows and --cols, "
                "or --detect."
            )
        if rows < 1 or cols < 1 or height % rows or width % cols:
            raise InputError(
                f"{path} is {width}x{height} pixels, which {rows} rows and {cols} columns do not "
                "divide; say the grid's own --rows and --cols."
            )
        cell = width // cols, height // rows
        if cell[0] % CELL_MULTIPLE or cell[1] % CELL_MULTIPLE:
            raise InputError(
                f"{path} would have cells of {cell[0]}x{cell[1]} pixels, not multiples of "
                f"{CELL_MULTIPLE}; say other --rows and --cols, or scale the image first."
            )
        return Grid(rows=rows, cols=cols, cell=cell, order=self._order)
