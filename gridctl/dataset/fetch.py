"""Dataset folders from shards or from storage, copied into the cache."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from gridctl.dataset.folder import METADATA_FILE, walk
from gridctl.dataset.grid_image import GRID_SUFFIXES
from gridctl.dataset.shards import import_parquet
from gridctl.errors import InputError
from gridctl.files import atomic_folder, entries
from gridctl.machine.caches import cache_file, cache_folder
from gridctl.media.kinds import is_hidden
from gridctl.progress import Progress, silent
from gridctl.storage import is_remote, map_paths
from gridctl.text import decode

_MAGIC = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp"}


def as_folder(source: Path) -> Path:
    """A dataset folder with the grids of `source`.

    That is `source` itself, unless it is a .tar or .parquet file or a folder of these: then a
    folder in the cache with what they hold. Raises InputError for a damaged shard.
    """
    shards = _shards(source)
    if not shards:
        return source
    known = [[str(s), s.stat().st_size, s.stat().st_mtime_ns] for s in shards]
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    folder = cache_folder() / "shards" / digest
    if not folder.is_dir():
        with atomic_folder(folder, keep_first=True) as temporary:
            for shard in shards:
                _extract(shard, temporary)
    return folder


def _shards(source: Path) -> list[Path]:
    files = entries(source)[1] if source.is_dir() else [source]
    files = sorted(path for path in files if not path.name.startswith("."))
    return [path for path in files if path.suffix in (".tar", ".parquet")]


def _extract(shard: Path, folder: Path) -> None:
    read = _read_tar if shard.suffix == ".tar" else _read_parquet
    try:
        for name, image, text in read(shard):
            path = folder / _inside(name, shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
            if text:
                path.with_suffix(".txt").write_text(f"{text.strip()}\n", encoding="utf-8")
    except (tarfile.TarError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{shard} is damaged ({error}); download or make it again.") from error


def _inside(name: str, shard: Path) -> PurePosixPath:
    """Place of a file in the folder: never outside it, and in val/ if its shard is for that."""
    path = PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
    if path.parts[0] not in ("train", "val") and shard.name.startswith("val"):
        return "val" / path
    return path


def _read_tar(shard: Path) -> Iterator[tuple[str, bytes, str | None]]:
    """(name, image, caption) of each sample: members of one name up to its first dot."""
    with shard.open("rb") as file, tarfile.open(fileobj=file) as tar:
        sample: dict[str, bytes] = {}
        key = ""
        for member in tar:
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if f"{folder}/{stem}" != key:
                yield from _sample(key, sample)
                key, sample = f"{folder}/{stem}", {}
            content = tar.extractfile(member)
            sample[f".{suffix.lower()}"] = content.read() if content else b""
        yield from _sample(key, sample)


def _sample(key: str, files: dict[str, bytes]) -> Iterator[tuple[str, bytes, str | None]]:
    for suffix in GRID_SUFFIXES & files.keys():
        entry: Any = json.loads(files.get(".json", b"{}"))
        name = entry.get("file_name") if isinstance(entry, dict) else None
        text = decode(files.get(".txt", b""))
        yield str(name or f"{key}{suffix}"), files[suffix], text


def _read_parquet(shard: Path) -> Iterator[tuple[str, bytes, str | None]]:
    """(name, image, caption) of each row of a table with the columns image and text."""
    number = 0
    with shard.open("rb") as file, import_parquet().ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=64):
            for row in batch.to_pylist():
                image: bytes = row["image"]["bytes"]
                suffix = _MAGIC.get(image[:2], ".jpg")
                name = row.get("file_name") or f"{shard.stem}-{number:09}{suffix}"
                number += 1
                yield name, image, row.get("text")


_SUFFIXES = GRID_SUFFIXES | {".txt"}  # shards are read where they are


def local_folder(source: Path, *, progress: Progress = silent) -> Path:
    """`source` itself if it is on this machine, else a folder in the cache with the same dataset.

    That holds the grids and captions that are in storage now, no others. Raises StorageError if
    storage cannot be reached, InputError if the cache cannot be written.
    """
    if not is_remote(source) or not source.is_dir():
        return source
    folder = cache_folder() / "datasets" / hashlib.sha256(str(source).encode()).hexdigest()[:16]
    files = {
        path.relative_to(source).as_posix(): path
        for here in walk(source)
        for path in here
        if path.suffix.lower() in _SUFFIXES or path.name == METADATA_FILE
    }
    copies = map_paths(partial(_copy, source=source, folder=folder), list(files.values()))
    for done, path in enumerate(copies, start=1):
        progress(done, len(files), f"copying {path.name}")
    for left in folder.rglob("*"):
        if is_hidden(left.name):  # a temporary file: another process copies the same folder
            continue
        if left.is_file() and left.relative_to(folder).as_posix() not in files:
            left.unlink(missing_ok=True)
    return folder


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
