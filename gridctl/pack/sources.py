"""Sources: the clips in files and folders, and the name of each clip's grids."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.media.grid_image import load_facts
from gridctl.media.images import IMAGE_SUFFIXES, image_files, is_animated, natural_key

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif",
    ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mk3d",
    ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt",
    ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on


@dataclass(frozen=True, kw_only=True)
class SourceClip:
    """A clip, the folder of its grids, and their name without number and suffix.

    `origin` is the clip's path relative to the dataset folder, as facts have it. It does not
    depend on the current folder.
    """

    path: Path
    origin: str
    folder: Path
    name: str


def find_clips(
    sources: Sequence[Path],
    output: Path,
    *,
    first_name: str,
    shard: tuple[int, int] | None = None,
) -> list[SourceClip]:
    """Every clip in `sources`, each with a name that no other clip has, in this run or earlier.

    `first_name` is the name of a clip's first grid with {} for the clip's name, such as
    "{}.jpg". `shard` (i, n) takes every n-th clip from the i-th on, into a sub-folder. A clip
    that is named twice counts once. A source that is no clip is listed too: packing it fails,
    with a line that says why.

    Raises UsageError for an impossible shard.
    """
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"shard {shard[0]}/{shard[1]} is out of range; write 1/8 to 8/8.")
    found: list[SourceClip] = []
    taken: set[str] = set()
    clips: dict[Path, tuple[Path, Path]] = {}
    for source in sources:
        for clip, below in _clips_of(source, output):
            clips.setdefault(clip.absolute(), (clip, below))
    for number, (clip, below) in enumerate(clips.values()):
        folder, origin = output / below, _origin(clip, output)
        if shard is not None:
            if number % shard[1] != shard[0] - 1:
                continue
            folder /= f"shard-{shard[0]:0{len(str(shard[1]))}}-of-{shard[1]}"
        for name in _names(clip):
            if (key := str(folder / name).casefold()) in taken:  # macOS and Windows fold case
                continue
            if _is_free(folder / first_name.format(name), origin):
                break
        taken.add(key)
        found.append(SourceClip(path=clip, origin=origin, folder=folder, name=name))
    return found


def sidecar(source: Path) -> Path:
    """The text beside a source: clip.txt for clip.mp4, and for a folder named clip."""
    if source.is_dir():
        source = source.absolute()  # "." has no name of its own
        return source.with_name(f"{source.name}.txt")
    return source.with_suffix(".txt")


def _clips_of(source: Path, output: Path) -> list[tuple[Path, Path]]:
    # Grids that an earlier run wrote below the source are no frames.
    return _clips(source, Path(), (output.resolve(),)) or [(source, Path())]


def _clips(source: Path, below: Path, parents: tuple[Path, ...] = ()) -> list[tuple[Path, Path]]:
    """(clip, its folder within the dataset) for `source` and all below it, in natural order."""
    try:
        if not source.is_dir():
            return [(source, below)]
        entries = sorted(source.iterdir(), key=natural_key)
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        clips = [entry for entry in entries if not entry.is_dir() and _is_clip(entry)]
        folders = [entry for entry in entries if entry.is_dir()]
        is_sequence = not clips and bool(image_files(source))  # beside videos they are thumbnails
        parents = (*parents, source.resolve())
        loops = [folder for folder in folders if folder.resolve() in parents]
    except (OSError, InputError, RuntimeError):  # RuntimeError: links in a circle, Python < 3.13
        return [(source, below.parent)]  # packing it will fail and say why
    found = [(source, below.parent)] if is_sequence else []
    for entry in entries:
        if entry in loops:  # a link to a folder above has no end
            continue
        if entry in folders:
            found.extend(_clips(entry, below / entry.name, parents))
        elif entry in clips:
            found.append((entry, below))
    return found


def _is_clip(path: Path) -> bool:
    """Whether a file in a folder has the name of a video, or is an animated image."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix in IMAGE_SUFFIXES and is_animated(path))


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


def _origin(clip: Path, output: Path) -> str:
    try:
        path = Path(os.path.relpath(clip.absolute(), output.absolute()))
    except ValueError:  # on another drive of Windows
        path = clip.absolute()
    return _as_unicode(path.as_posix())


def _is_free(target: Path, origin: str) -> bool:
    """Whether no other clip has a grid of this name from an earlier run."""
    try:
        facts = load_facts(target) if target.exists() else None
    except (GridctlError, OSError):
        return True  # not a grid; writing it will say what is wrong
    return facts is None or facts.source == origin


def _as_unicode(name: str) -> str:
    """`name` with _ for bytes that are not UTF-8, which JSON cannot contain."""
    return re.sub("[\ud800-\udfff]", "_", name)
