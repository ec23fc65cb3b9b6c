"""Shards: a dataset folder again as a few large files, for storage that is slow with small ones.

WebDataset's are tar files in which `000000000.jpg`, `.txt` and `.json` follow each other. Parquet's
have the image file in a column that `datasets` reads as an image. Both have the entries of
`metadata.jsonl`, and the images keep their metadata.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gridctl.dataset.folder import list_grids, metadata_entry
from gridctl.dataset.grid_image import load_metadata
from gridctl.errors import InputError, UsageError
from gridctl.files import atomic_file, open_regular

ShardFormat = Literal["webdataset", "parquet"]
SUFFIXES: dict[ShardFormat, str] = {"webdataset": ".tar", "parquet": ".parquet"}
MEGABYTE = 10**6

_MADE_FROM = "gridctl"  # what a finished shard was made from, in its header
_TAR_END = 1024  # zeros at the end of a tar file
_ROWS = 64  # of a Parquet row group: readers hold one in memory


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file to write: grid images of `folder`, the first of which is number `first`."""

    path: Path
    folder: Path
    images: tuple[Path, ...]
    first: int


def plan_shards(folder: Path, output: Path, format: ShardFormat, max_bytes: int) -> list[Shard]:
    """Shards of at most `max_bytes` for all grids of a dataset folder, in its order.

    Names are `train-00000-of-00012.tar`, and `val-...` for the grids in val/. A grid that is
    larger gets its own shard. Raises InputError if there is no grid.
    """
    splits: dict[str, list[Path]] = {}
    for image in list_grids(folder):
        is_val = image.relative_to(folder).parts[0] == "val"
        splits.setdefault("val" if is_val else "train", []).append(image)
    shards = []
    for split, images in splits.items():
        groups = list(_groups(images, max_bytes))
        first = 0
        for number, group in enumerate(groups):
            name = f"{split}-{number:05}-of-{len(groups):05}{SUFFIXES[format]}"
            shards.append(
                Shard(path=output / name, folder=folder, images=tuple(group), first=first)
            )
            first += len(group)
    return shards


def write_shard(shard: Shard, *, force: bool = False) -> bool:
    """Write a shard. False if it is there already, from the same grids and captions.

    Raises InputError if another file has its name (unless `force`), or a grid cannot be read.
    """
    made_from = _fingerprint(shard)
    before = made_from_of(shard.path)
    if before == made_from and not force:
        return False
    if shard.path.exists() and before is None and not force:
        raise InputError(
            f"{shard.path} exists and is not a shard made by gridctl; use --force, or another -o."
        )
    write = _write_tar if shard.path.suffix == ".tar" else _write_parquet
    with atomic_file(shard.path, force=True) as temporary:
        write(shard, temporary, made_from)
    return True


def made_from_of(path: Path) -> str | None:
    """The fingerprint in the header of a finished shard; None for any other file."""
    with suppress(OSError, ValueError, tarfile.TarError, KeyError):
        if path.suffix == ".tar":
            with open_regular(path) as file:
                file.seek(-_TAR_END, os.SEEK_END)
                if any(file.read()):
                    return None  # its end is missing
                file.seek(0)
                with tarfile.open(fileobj=file) as tar:
                    return tar.pax_headers[_MADE_FROM]
        with open_regular(path) as file:
            found = import_parquet().read_schema(file).metadata[_MADE_FROM.encode()]
        return bytes(found).decode()
    return None


def _groups(images: Sequence[Path], max_bytes: int) -> Iterator[list[Path]]:
    group: list[Path] = []
    filled = 0
    for image in images:
        size = image.stat().st_size
        if group and filled + size > max_bytes:
            yield group
            group, filled = [], 0
        group.append(image)
        filled += size
    yield group


def _entry(image: Path, folder: Path) -> dict[str, Any]:
    """The line of metadata.jsonl, with the name within the whole dataset."""
    entry = metadata_entry(image, load_metadata(image))
    return entry | {"file_name": image.relative_to(folder).as_posix()}


def _fingerprint(shard: Shard) -> str:
    known: list[Any] = [shard.first]
    for image in shard.images:
        metadata = load_metadata(image)
        made_from = metadata.made_from if metadata else image.stat().st_mtime_ns
        caption = metadata_entry(image, None)["text"]
        name = image.relative_to(shard.folder).as_posix()
        known.append([name, image.stat().st_size, made_from, caption])
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _write_tar(shard: Shard, path: Path, made_from: str) -> None:
    # Members have neither date nor owner, so the same grids make the same file.
    headers = {_MADE_FROM: made_from}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        for number, image in enumerate(shard.images, shard.first):
            entry = _entry(image, shard.folder)
            _add(tar, f"{number:09}{image.suffix.lower()}", image.read_bytes())
            if entry["text"]:
                _add(tar, f"{number:09}.txt", f"{entry['text']}\n".encode())
            data = json.dumps(entry, ensure_ascii=False).encode()
            _add(tar, f"{number:09}.json", data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _write_parquet(shard: Shard, path: Path, made_from: str) -> None:
    import pyarrow as pa

    schema = _schema(made_from)
    with import_parquet().ParquetWriter(path, schema) as writer:
        for start in range(0, len(shard.images), _ROWS):
            rows = []
            for image in shard.images[start : start + _ROWS]:
                entry = _entry(image, shard.folder)
                picture = {"bytes": image.read_bytes(), "path": Path(entry["file_name"]).name}
                rows.append({"image": picture} | entry)
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _schema(made_from: str) -> Any:
    """The columns, and in the header what `datasets` takes them for."""
    import pyarrow as pa

    kinds = {
        "file_name": "string", "text": "string", "rows": "int32", "cols": "int32",
        "cell": ["int32"], "order": "string", "source": "string", "times_seconds": ["float64"],
        "fps": "float64", "num_frames": "int32", "part": ["int32"], "shared": "int32",
    }  # fmt: skip
    fields = [pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    for name, kind in kinds.items():
        value = {"dtype": kind[0] if isinstance(kind, list) else kind, "_type": "Value"}
        arrow = pa.type_for_alias(value["dtype"])
        fields.append(pa.field(name, pa.list_(arrow) if isinstance(kind, list) else arrow))
        features[name] = (
            {"feature": value, "_type": "Sequence"} if isinstance(kind, list) else value
        )
    header = {"huggingface": json.dumps({"info": {"features": features}}), _MADE_FROM: made_from}
    return pa.schema(fields, metadata=header)


def import_parquet() -> Any:
    """pyarrow.parquet; UsageError if it is not installed."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow; run: pip install pyarrow") from None
    return parquet
