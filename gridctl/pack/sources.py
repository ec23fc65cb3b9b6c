"""Sources: the clips in files, folders and lists, and the names of their grids."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path, PurePosixPath

from gridctl.dataset.folder import METADATA_FILE, read_lines, read_text
from gridctl.dataset.grid_image import load_metadata
from gridctl.engine.shard import take_shard
from gridctl.errors import GridctlError, UsageError, counted
from gridctl.files import entries
from gridctl.media.images import is_animated, natural_key
from gridctl.media.kinds import SIDECAR_SUFFIXES, UNREAD_PICTURES, is_hidden, kind_of
from gridctl.storage import StorageError, Url, as_path
from gridctl.text import decode, lines


@dataclass(frozen=True, kw_only=True)
class InputClip:
    """A clip to pack, the folder of its grids, and their name without number and suffix.

    `origin` is the clip's path relative to the dataset folder, as metadata have it. It does not
    depend on the current folder.
    """

    path: Path
    origin: str
    folder: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The clips in some sources, and notes on files that are left out."""

    clips: tuple[InputClip, ...]
    notes: tuple[str, ...]


def find_clips(
    sources: Sequence[Path],
    output: Path,
    *,
    first_name: str,
    shard: tuple[int, int] | None = None,
) -> Found:
    """Find every clip in `sources`, and give each a name that no other clip has.

    `first_name` is the name of a clip's first grid with {} for the clip's name, such as
    "{}.jpg". Names of earlier runs stay. A clip that is named twice counts once. A source without
    any clip is listed too: packing it fails, with a line that says why.

    `shard` (i, n) is the i-th of n parts, counted from 1, in a sub-folder of its own. Clips are
    dealt out in natural order of their paths, so the order of `sources` changes nothing.

    Raises UsageError for an impossible shard.
    """
    search = _Search(output)
    found: dict[Path, tuple[Path, Path]] = {}
    for source in sources:
        for clip, below in search.clips_of(source):
            found.setdefault(clip.absolute(), (clip, below))
    start = output.absolute()
    located = [(clip, below, _origin(clip, start)) for clip, below in found.values()]
    sub_folder = ""
    if shard is not None:
        number, total = shard
        located = take_shard(sorted(located, key=lambda place: _natural_path(place[2])), shard)
        sub_folder = f"shard-{number:0{len(str(total))}}-of-{total}"
    clips_in = cache(_clips_in)
    taken: set[str] = set()
    clips: list[InputClip] = []
    for clip, below, origin in located:
        folder = output / below / sub_folder
        for name in _names(clip):
            key = str(folder / name).casefold()  # macOS and Windows fold case
            if key in taken:
                continue
            target = folder / first_name.format(name)
            # In storage, two requests for a folder instead of some for each of its files.
            known = clips_in(folder) if isinstance(output, Url) else {target.name: None}
            if target.name not in known or known[target.name] == origin:
                break
            if _is_free(target, origin):
                break
        taken.add(key)
        clips.append(InputClip(path=clip, origin=origin, folder=folder, name=name))
    return Found(clips=tuple(clips), notes=tuple(search.notes()))


def read_sidecar(source: Path) -> str | None:
    """Read the text beside a source: clip.txt for clip.mp4, and for a folder named clip.

    None on the web, where a server may answer with a page that says that there is no such file.
    """
    if isinstance(source, Url) and source.is_web:
        return None
    if source.is_dir():
        source = source.absolute()  # "." has no name of its own
        return read_text(source.with_name(f"{source.name}.txt"))
    return read_text(source.with_suffix(".txt"))


def read_paths(data: bytes) -> list[Path]:
    """Read a list of paths: one per line, or with NUL after each (`find -print0`).

    A byte order mark says the encoding (PowerShell writes UTF-16). Without one, names may be
    any bytes. Raises UsageError for an empty list, for one that cannot be decoded, and for a
    line that names the current folder or one above it: no list means that, and packing it would
    take everything there.
    """
    has_mark = data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"))
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        if has_mark:
            raise UsageError(
                f"the list on stdin is damaged at byte {error.start}; write it again as UTF-8."
            ) from None
        text = os.fsdecode(data)
    # NULs may also belong to the line ends of UTF-16 and UTF-32.
    separates = b"\0" in data and not (has_mark or b"\n\0" in data or b"\0\n" in data)
    names = [name for name in (os.fsdecode(data).split("\0") if separates else lines(text)) if name]
    if not names:
        raise UsageError("the list on stdin is empty; pipe paths in, such as find . -name '*.mp4'.")
    here = Path.cwd()
    for number, name in enumerate(names, 1):
        if here.is_relative_to(os.path.abspath(name)):  # noqa: PTH100  # no links to follow
            raise UsageError(
                f"entry {number} of the list on stdin is {name!r}, the current folder or one above "
                "it; leave it out, or name that folder as an argument."
            )
    return [as_path(name) for name in names]


class _Search:
    """Finds clips in folders, and remembers what it leaves out. `output` is not searched."""

    def __init__(self, output: Path) -> None:
        self._output = output.resolve()
        self._thumbnails: list[Path] = []  # images beside videos
        self._others: list[Path] = []  # neither videos nor images

    def clips_of(self, source: Path) -> list[tuple[Path, Path]]:
        """(clip, its folder within the dataset) for `source` and all below it, in natural order.

        A source without any clip stands for itself: packing it fails and says why.
        """
        found = list(self._clips(source, Path(), frozenset({self._output})))
        return found or [(source, Path())]

    def notes(self) -> Iterator[str]:
        """One line for each kind of file that was left out."""
        if self._thumbnails:
            yield (
                f"{counted(len(self._thumbnails), 'image')} beside videos left out, such as "
                f"{self._thumbnails[0]}; to pack images, give them a folder without videos"
            )
        if self._others:
            pictures = any(path.suffix.lower() in UNREAD_PICTURES for path in self._others)
            yield (
                f"{counted(len(self._others), 'file')} left out, such as {self._others[0]}: no "
                "videos or images that gridctl reads"
                + ("; convert HEIC, EXR and raw pictures to PNG" if pictures else "")
            )

    def _clips(
        self, source: Path, below: Path, parents: frozenset[Path]
    ) -> Iterator[tuple[Path, Path]]:
        """`parents` are the folders above, resolved: a link to one of them has no end."""
        try:
            if not source.is_dir():
                yield source, below
                return
            folders, files = (
                [path for path in paths if not is_hidden(path.name)] for paths in entries(source)
            )
            parents |= {source.resolve()}
            loops = {folder for folder in folders if folder.resolve() in parents}
        except (OSError, StorageError, RuntimeError):  # the last: links in a circle, Python < 3.13
            yield source, below.parent  # packing it will fail and say why
            return
        clips, images = self._sorted_by_kind(files)
        if clips:
            self._thumbnails += images
        elif images:
            yield source, below.parent
        for entry in sorted([*folders, *clips], key=natural_key):
            if entry in clips:
                yield entry, below
            elif entry not in loops:
                yield from self._clips(entry, below / entry.name, parents)

    def _sorted_by_kind(self, files: list[Path]) -> tuple[set[Path], list[Path]]:
        """(clips, still images) of a folder's files; the rest are noted."""
        clips: set[Path] = set()
        images: list[Path] = []
        for path in sorted(files, key=natural_key):
            kind = kind_of(path)
            if kind == "video" or (kind == "image" and is_animated(path)):
                clips.add(path)
            elif kind == "image":
                images.append(path)
            elif path.suffix.lower() not in SIDECAR_SUFFIXES:
                self._others.append(path)
        return clips, images


def _natural_path(path: str) -> tuple[object, ...]:
    """Sort key in which each folder and file is in natural order, as in a search."""
    return [natural_key(Path(part)) for part in PurePosixPath(path).parts], path


def _names(clip: Path) -> Iterator[str]:
    """Names for the clip's grid, best first: vid1, then vid1-avi, then vid1-avi-2 ..."""
    if clip.is_dir():
        own = clip.absolute().name  # the name of a link, not of its target
        name = distinct = (clip.resolve().name if own == ".." else own) or "frames"
    else:
        name, distinct = clip.stem, f"{clip.stem}-{clip.suffix[1:].lower()}"
    # A name that begins with a dot would hide the grid from most programs.
    name, distinct = (_as_unicode(text).lstrip(".") or "clip" for text in (name, distinct))
    yield name
    if distinct != name:
        yield distinct
    yield from (f"{distinct}-{number}" for number in count(2))


def _clips_in(folder: Path) -> dict[str, str | None]:
    """Each file of a folder in storage, with its clip if metadata.jsonl says which."""
    try:
        clips: dict[str, str | None] = {path.name: None for path in entries(folder)[1]}
    except FileNotFoundError:
        return {}
    if METADATA_FILE in clips:
        for entry in read_lines(folder / METADATA_FILE):
            if entry.get("file_name") in clips:
                clips[entry["file_name"]] = entry.get("source")
    return clips


def _is_free(target: Path, origin: str) -> bool:
    """Whether no other clip has a grid of this name from an earlier run."""
    try:
        metadata = load_metadata(target) if target.exists() else None
    except (GridctlError, OSError):
        return True  # not a grid; writing it will say what is wrong
    return metadata is None or metadata.source == origin


def _origin(clip: Path, start: Path) -> str:
    if isinstance(clip, Url):
        if isinstance(start, Url) and clip.root == start.root:
            return posixpath.relpath(clip.path, start.path)
        return str(clip)
    if isinstance(start, Url):
        return _as_unicode(clip.absolute().as_posix())
    try:
        path = Path(os.path.relpath(clip.absolute(), start))
    except ValueError:  # on another drive of Windows
        path = clip.absolute()
    return _as_unicode(path.as_posix())


def _as_unicode(name: str) -> str:
    """`name` with _ for bytes that are not UTF-8, which JSON cannot contain."""
    return re.sub("[\ud800-\udfff]", "_", name)
