"""A dataset folder in storage, copied into the cache. Only what has changed since travels again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gridctl.files import entries
from gridctl.machine.caches import cache_file, cache_folder
from gridctl.media.grid_image import GRID_SUFFIXES
from gridctl.media.kinds import is_hidden
from gridctl.media.provenance import METADATA
from gridctl.progress import Progress, silent
from gridctl.storage import is_remote, map_paths

_SUFFIXES = GRID_SUFFIXES | {".txt"}  # shards are read where they are


def local_folder(source: Path, *, progress: Progress = silent) -> Path:
    """`source` itself if it is on this machine, else a folder in the cache with the same dataset.

    That holds the grids and captions that are in storage now, no others. Raises StorageError if
    storage cannot be reached, InputError if the cache cannot be written.
    """
    if not is_remote(source) or not source.is_dir():
        return source
    folder = cache_folder() / "datasets" / hashlib.sha256(str(source).encode()).hexdigest()[:16]
    files = {path.relative_to(source).as_posix(): path for path in _files(source)}
    copies = map_paths(partial(_copy, source=source, folder=folder), list(files.values()))
    for done, path in enumerate(copies, start=1):
        progress(done, len(files), f"copying {path.name}")
    for left in folder.rglob("*"):
        if is_hidden(left.name):  # a temporary file: another process copies the same folder
            continue
        if left.is_file() and left.relative_to(folder).as_posix() not in files:
            left.unlink(missing_ok=True)
    return folder


def _files(folder: Path) -> Iterator[Path]:
    folders, files = entries(folder)
    for path in files:
        ours = path.suffix.lower() in _SUFFIXES or path.name == METADATA
        if ours and not is_hidden(path.name):
            yield path
    for inner in folders:
        if not is_hidden(inner.name):
            yield from _files(inner)


def _copy(path: Path, *, source: Path, folder: Path) -> Path:
    """Copy a file unless it is there. A copy has the time of its original, as rsync gives it."""
    copy = folder / path.relative_to(source)
    state = path.stat()
    try:
        there = copy.stat()
        if (there.st_size, there.st_mtime_ns) == (state.st_size, state.st_mtime_ns):
            return copy
    except FileNotFoundError:
        pass
    with cache_file(copy) as temporary:
        temporary.write_bytes(path.read_bytes())
        os.utime(temporary, ns=(state.st_mtime_ns, state.st_mtime_ns))
    return copy
