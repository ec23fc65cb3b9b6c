"""Unpack: grid images → clips or folders of frames. Grids of one clip are joined."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.dataset.fetch import as_folder
from gridctl.dataset.folder import list_grids
from gridctl.dataset.grid_image import find_cells, load_grid, load_metadata, split
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.files import open_regular, refuse_overwrite
from gridctl.formats import CLIP_SUFFIXES
from gridctl.geometry import Sheet
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture
from gridctl.media.record import read_record, record_text
from gridctl.media.write import check_codec, clip_format, clip_suffix, write_clip
from gridctl.profile import Profile
from gridctl.progress import Failure, FilesResult, Progress


@dataclass(frozen=True, kw_only=True)
class GridFile:
    """A grid image, with its metadata if it has any, or the reason why it cannot be read."""

    path: Path
    metadata: GridMetadata | None = None
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutputClip:
    """A clip to write: its grids in order, and its name, with a / at the end for a folder."""

    grids: tuple[GridFile, ...]
    target: str
    is_named: bool
    """True if the user chose the name. Other names come from the grids'."""


def unpack(
    sources: Sequence[Path],
    output: Path | str,
    profile: Profile | None = None,
    *,
    detect: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> FilesResult:
    """Write the clip of each grid image, without the padding.

    A source may also be a .tar or .parquet shard that pack wrote, or a folder of them.

    Grids that pack made from one clip become one clip again: in order, and frames that they
    share come once. A single clip is written to `output` if that is named like a clip.
    Otherwise clips go into the folder `output`, under their grids' names. A clip that was made
    from the same grids with the same settings is skipped. Another one is not overwritten without
    `force`.

    `profile` says how clips are written (`[unpack]`), and what grid an image without metadata has
    (those keys of `[grid]` that it sets). `detect` guesses the rows and columns of such images
    from their seams, and notes its confidence.

    Raises UsageError for an unknown suffix, for a codec that the format does not have, and if
    two clips would get the same name. Raises InputError if a folder holds no images.
    """
    profile = profile or Profile()
    settings = profile.unpack
    clips = plan_clips([as_folder(source) for source in sources], output, settings.format)
    for kind in {clip_format(clip.target, settings.format) for clip in clips}:
        check_codec(kind, settings.codec, settings.crf)
    written: list[Path] = []
    skipped: list[Path] = []
    failed: list[Failure] = []
    notes: list[str] = []
    reader = _Reader(profile, detect=detect, note=notes.append)
    for done, clip in enumerate(clips):
        if progress:
            progress(done, len(clips), clip.grids[0].path.name)
        target = Path(clip.target)
        try:
            record = _making(clip, profile, detect=detect)
            if not force and read_record(target) == json.loads(record):
                skipped.append(target)
                continue
            refuse_overwrite(target, force=force)
            write_clip(
                reader.frames(clip),
                clip.target,
                fps=settings.fps or stored_rate(clip),
                format=settings.format,
                codec=settings.codec,
                crf=settings.crf,
                force=force,
                record=record,
            )
            written.append(target)
        except GridctlError as error:
            failed.append(Failure(path=clip.grids[0].path, reason=str(error)))
    if progress and clips:
        progress(len(clips), len(clips), "")
    return FilesResult(
        written=tuple(written), skipped=tuple(skipped), failed=tuple(failed), notes=tuple(notes)
    )


def _making(clip: OutputClip, profile: Profile, *, detect: bool) -> str:
    """The record of what a clip is made from. The grids stand in it by their content."""
    settings = {**profile.unpack.to_json(), "detect": detect}
    del settings["format"]
    if any(grid.metadata is None for grid in clip.grids):
        settings["grid"] = {
            key: getattr(profile.grid, key)
            for key in ("rows", "cols", "order")
            if profile.is_set(f"grid.{key}")
        }
    hashes = [hashlib.sha256(_content(grid.path)).hexdigest() for grid in clip.grids]
    kind = clip_format(clip.target, profile.unpack.format)
    return record_text({"command": "unpack", "format": kind, "grids": hashes, "settings": settings})


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError:
        return b""  # reading it as an image says what is wrong


def plan_clips(sources: Sequence[Path], output: Path | str, format: str) -> Sequence[OutputClip]:
    """The clips of `sources`, which are grid images and folders of them.

    Raises UsageError if two clips would get the same name, or if `output` is the name of one
    clip and there are several.
    """
    clips: dict[object, list[tuple[GridFile, Path]]] = {}
    for source in sources:
        root = source if source.is_dir() else source.parent
        for path in list_grids(source) if source.is_dir() else [source]:
            grid = _open(path)
            clips.setdefault(_clip_of(grid), []).append((grid, root))
    if len(clips) == 1 and not any(source.is_dir() for source in sources):
        (grids,) = clips.values()
        clip_format(output, format)
        return [OutputClip(grids=_in_order(grids), target=str(output), is_named=True)]
    suffix = Path(output).suffix.lower()
    if suffix in CLIP_SUFFIXES and not str(output).endswith("/"):
        raise UsageError(
            f"{output} names one clip, but a folder or several grids become many; "
            f"use -o {Path(output).stem}/ --format {CLIP_SUFFIXES[suffix]}."
        )
    planned: list[OutputClip] = []
    taken: dict[Path, Path] = {}
    for grids in clips.values():
        grid, root = grids[0]
        target = Path(output) / grid.path.relative_to(root).parent / _clip_name(grid, format)
        if target in taken:  # vid1.jpg and vid1.png, or two folders that both have a vid1
            raise UsageError(
                f"{grid.path} and {taken[target]} would both become {target}; unpack one of them "
                "into another folder."
            )
        taken[target] = grid.path
        slash = "" if clip_suffix(format) else "/"  # so that frames of take.1 go to take.1/
        planned.append(
            OutputClip(grids=_in_order(grids), target=f"{target}{slash}", is_named=False)
        )
    return planned


def stored_rate(clip: OutputClip) -> float:
    """Frames per second as the metadata say, else the rate of image sequences."""
    metadata = clip.grids[0].metadata
    return metadata.fps if metadata else IMAGE_SEQUENCE_FPS


def _open(path: Path) -> GridFile:
    try:
        return GridFile(path=path, metadata=load_metadata(path))
    except InputError as error:
        return GridFile(path=path, fault=str(error))


def _clip_of(grid: GridFile) -> object:
    """A key that all grids of one clip share, if one run of pack made them."""
    metadata = grid.metadata
    if metadata is None or metadata.part is None or metadata.part[1] == 1:
        return grid.path
    return metadata.source, metadata.made_from, metadata.part[1], grid.path.parent, grid.path.suffix


def _clip_name(grid: GridFile, format: str) -> str:
    name = grid.path.stem
    if grid.metadata and grid.metadata.part and grid.metadata.part[1] > 1:
        name = re.sub(r"_\d{4,}$", "", name)  # vid1_0001 → vid1
    return name + clip_suffix(format)


def _in_order(grids: Sequence[tuple[GridFile, Path]]) -> tuple[GridFile, ...]:
    found = {grid.path: grid for grid, _ in grids}  # naming one twice has no effect
    return tuple(
        sorted(
            found.values(),
            key=lambda g: g.metadata.part if g.metadata and g.metadata.part else (0, 0),
        )
    )


class _Reader:
    """Reads the frames of clips, and notes what the user should know about them."""

    def __init__(self, profile: Profile, *, detect: bool, note: Callable[[str], None]) -> None:
        # A default says nothing about the image, so only what was set counts.
        self._rows = profile.grid.rows if profile.is_set("grid.rows") else None
        self._cols = profile.grid.cols if profile.is_set("grid.cols") else None
        self._order = profile.grid.order
        self._detect = detect
        self._note = note

    def frames(self, clip: OutputClip) -> Iterator[Picture]:
        """The real frames of all grids in a row. Those that grids share come once."""
        parts = [grid.metadata.part for grid in clip.grids if grid.metadata and grid.metadata.part]
        if parts and len(parts) < parts[0][1]:
            self._note(
                f"{clip.target} is made of {len(parts)} of the {parts[0][1]} grids of its clip"
            )
        pictures = self._join(clip.grids)
        first = next(pictures)  # so that a fault shows before a file is opened
        return itertools.chain([first], pictures)

    def _join(self, grids: Sequence[GridFile]) -> Iterator[Picture]:
        before, last = 0, -1.0  # number of the previous grid, and the time of its last frame
        for grid in grids:
            if grid.fault is not None:
                raise InputError(grid.fault)
            image, metadata = load_grid(grid.path)
            if metadata is None:
                yield from split(image, self._sheet(image, grid.path))
                continue
            frames = split(image, metadata.grid)
            number, size = metadata.part[0] if metadata.part else 1, metadata.grid.num_frames
            # Time alone does not find shared frames, because a rate above the clip's repeats
            # frames. If grids between these two are missing, they share fewer.
            shared = size - (number - before) * (size - metadata.shared)
            real = zip(itertools.count(), frames, metadata.times_seconds, strict=False)
            for place, frame, seconds in real:
                if place >= shared or seconds > last:
                    yield frame
            before, last = number, metadata.times_seconds[-1]

    def _sheet(self, image: Picture, path: Path) -> Sheet:
        """The cells of an image without metadata."""
        rows, cols = self._rows, self._cols
        height, width = image.shape[:2]
        if self._detect and (rows is None or cols is None):
            found = find_cells(image)
            guess = f"{found.rows}x{found.cols} cells, {found.confidence:.0%} sure"
            if not found.is_sure:
                raise InputError(f"{path} has no clear seams ({guess}); add --rows and --cols.")
            self._note(f"{path} has {guess} by its seams")
            rows, cols = rows or found.rows, cols or found.cols
        if rows is None or cols is None:
            raise InputError(
                f"{path} was not made by gridctl, so its grid is unknown; add --rows and --cols, "
                "or --detect."
            )
        if height % rows or width % cols:
            raise InputError(
                f"{path} is {width}x{height} pixels, which {rows} rows and {cols} columns do not "
                "divide; use the image's own --rows and --cols."
            )
        return Sheet(rows=rows, cols=cols, cell=(width // cols, height // rows), order=self._order)
