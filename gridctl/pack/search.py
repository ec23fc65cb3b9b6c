"""Search: the clips in a folder and all below it, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import counted
from gridctl.files import entries
from gridctl.media.images import is_animated, natural_key
from gridctl.media.kinds import SIDECAR_SUFFIXES, UNREAD_PICTURES, is_hidden, kind_of
from gridctl.storage import StorageError


class Search:
    """Finds clips, and remembers what it leaves out. The folder `output` is not searched."""

    def __init__(self, output: Path) -> None:
        self._output = output.resolve()
        self._thumbnails: list[Path] = []  # images beside videos
        self._others: list[Path] = []  # neither videos nor images

    def clips_of(self, source: Path) -> list[tuple[Path, Path]]:
        """(clip, its folder within the dataset) for `source` and all below it.

        In natural order. A source without any clip stands for itself: packing it fails and says
        why.
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
            folders, files = (_visible(paths) for paths in entries(source))
            parents |= {source.resolve()}
            loops = {folder for folder in folders if folder.resolve() in parents}
        except (OSError, StorageError, RuntimeError):  # the last: links in a circle, Python < 3.13
            yield source, below.parent  # packing it will fail and say why
            return
        clips, images, others = _sorted_by_kind(files)
        self._others += others
        if clips:
            self._thumbnails += images
        elif images:
            yield source, below.parent
        for entry in sorted([*folders, *clips], key=natural_key):
            if entry in clips:
                yield entry, below
            elif entry not in loops:
                yield from self._clips(entry, below / entry.name, parents)


def _visible(paths: list[Path]) -> list[Path]:
    return [path for path in paths if not is_hidden(path.name)]


def _sorted_by_kind(files: list[Path]) -> tuple[set[Path], list[Path], list[Path]]:
    """(clips, still images, files to mention) of a folder's files."""
    clips: set[Path] = set()
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(files, key=natural_key):
        kind = kind_of(path)
        if kind == "video" or (kind == "image" and is_animated(path)):
            clips.add(path)
        elif kind == "image":
            images.append(path)
        elif path.suffix.lower() not in SIDECAR_SUFFIXES:
            others.append(path)
    return clips, images, others
