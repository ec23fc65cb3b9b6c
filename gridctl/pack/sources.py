"""Sources: the clips in files and folders, and the name of each clip's grids."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gridctl.dataset.folder import METADATA_FILE, read_lines, read_text
from gridctl.dataset.grid_image import load_metadata
from gridctl.errors import GridctlError, UsageError
from gridctl.files import entries
from gridctl.pack.search import Search
from gridctl.storage import Url


@dataclass(frozen=True, kw_only=True)
class SourceClip:
    """A clip, the folder of its grids, and their name without number and suffix.

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

    clips: tuple[SourceClip, ...]
    notes: tuple[str, ...]


def find_clips(
    sources: Sequence[Path],
    output: Path,
    *,
    first_name: str,
    shard: tuple[int, int] | None = None,
) -> Found:
    """Every clip in `sources`, each with a name that no other clip has, in this run or earlier.

    `first_name` is the name of a clip's first grid with {} for the clip's name, such as
    "{}.jpg". `shard` (i, n) takes every n-th clip from the i-th on, into a sub-folder. A clip
    that is named twice counts once. A source that is no clip is listed too: packing it fails,
    with a line that says why.

    Raises UsageError for an impossible shard.
    """
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"shard {shard[0]}/{shard[1]} is out of range; write 1/8 to 8/8.")
    search = Search(output)
    located: dict[Path, tuple[Path, Path]] = {}
    for source in sources:
        for clip, below in search.clips_of(source):
            located.setdefault(clip.absolute(), (clip, below))
    start = output.absolute()
    is_free = _is_free_in_storage(cache(_sources_in)) if isinstance(output, Url) else _is_free
    taken: set[str] = set()
    clips: list[SourceClip] = []
    for number, (clip, below) in enumerate(located.values()):
        folder = output / below
        if shard is not None:
            if number % shard[1] != shard[0] - 1:
                continue
            folder /= f"shard-{shard[0]:0{len(str(shard[1]))}}-of-{shard[1]}"
        origin = _origin(clip, start)
        for name in _names(clip):
            key = str(folder / name).casefold()  # macOS and Windows fold case
            target = folder / first_name.format(name)
            if key not in taken and is_free(target, origin):
                break
        taken.add(key)
        clips.append(SourceClip(path=clip, origin=origin, folder=folder, name=name))
    return Found(clips=tuple(clips), notes=tuple(search.notes()))


def read_sidecar(source: Path) -> str | None:
    """The text beside a source: clip.txt for clip.mp4, and for a folder named clip.

    None on the web, where a server may answer with a page that says that there is no such file.
    """
    if isinstance(source, Url) and source.is_web:
        return None
    if source.is_dir():
        source = source.absolute()  # "." has no name of its own
        return read_text(source.with_name(f"{source.name}.txt"))
    return read_text(source.with_suffix(".txt"))


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
    number = 2
    while True:
        yield f"{distinct}-{number}"
        number += 1


def _is_free_in_storage(
    sources_in: Callable[[Path], dict[str, str | None]],
) -> Callable[[Path, str], bool]:
    """`_is_free`, with two requests for a folder instead of some for each of its files."""

    def is_free(target: Path, origin: str) -> bool:
        there = sources_in(target.parent)
        if target.name not in there:
            return True
        return there[target.name] == origin or _is_free(target, origin)

    return is_free


def _sources_in(folder: Path) -> dict[str, str | None]:
    """Each file of a folder in storage, with its clip if metadata.jsonl says which."""
    try:
        sources: dict[str, str | None] = {path.name: None for path in entries(folder)[1]}
    except FileNotFoundError:
        return {}
    if METADATA_FILE in sources:
        for entry in read_lines(folder / METADATA_FILE):
            if entry.get("file_name") in sources:
                sources[entry["file_name"]] = entry.get("source")
    return sources


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


def _is_free(target: Path, origin: str) -> bool:
    """Whether no other clip has a grid of this name from an earlier run."""
    try:
        metadata = load_metadata(target) if target.exists() else None
    except (GridctlError, OSError):
        return True  # not a grid; writing it will say what is wrong
    return metadata is None or metadata.source == origin


def _as_unicode(name: str) -> str:
    """`name` with _ for bytes that are not UTF-8, which JSON cannot contain."""
    return re.sub("[\ud800-\udfff]", "_", name)
