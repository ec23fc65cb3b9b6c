"""The dataset folder: grid images, a caption .txt beside each, and metadata.jsonl.

It is both a Hugging Face ImageFolder and a kohya-style folder. Captions live in the .txt
files. `metadata.jsonl` is derived from them and from the facts in the images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gridctl.errors import InputError
from gridctl.files import atomic_file, entries
from gridctl.media.facts import Facts
from gridctl.media.grid_image import GRID_SUFFIXES, load_facts
from gridctl.media.images import image_files, natural_key
from gridctl.media.kinds import is_hidden
from gridctl.media.provenance import METADATA, drop_journal, read_provenance
from gridctl.storage import is_remote, map_paths
from gridctl.text import decode, encodable, is_encodable


def list_grids(folder: Path) -> list[Path]:
    """All grid images in `folder` and its sub-folders, such as train/ and val/.

    In natural order, the images of a folder before its sub-folders. Hidden names, such as
    temporary files, are skipped. Raises InputError if there is no folder or no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; check the name, or make it with gridctl pack.")
    grids: list[Path] = []
    for files in _folders(folder):
        here = (path for path in files if not is_hidden(path.name))
        images = (path for path in here if path.suffix.lower() in GRID_SUFFIXES)
        grids.extend(sorted(images, key=natural_key))
    if not grids:
        raise InputError(f"{folder} holds no grid images; make some with gridctl pack.")
    return grids


def _folders(folder: Path) -> Iterator[list[Path]]:
    """The files of `folder`, then those of each folder below it that is not hidden."""
    if is_remote(folder):
        folders, files = entries(folder)
        yield files
        for inner in sorted((f for f in folders if not is_hidden(f.name)), key=natural_key):
            yield from _folders(inner)
        return
    for parent, names, found in os.walk(folder):
        visible = (name for name in names if not is_hidden(name))
        names[:] = sorted(visible, key=lambda name: natural_key(Path(name)))
        yield [Path(parent, name) for name in found]


def caption_path(image: Path) -> Path:
    """The caption file of `image`: beside it, with the suffix .txt."""
    return image.with_suffix(".txt")


def read_caption(image: Path) -> str | None:
    """The caption beside `image`, or None if the file is absent or empty."""
    return read_text(caption_path(image))


def read_text(path: Path) -> str | None:
    """The stripped text of a `.txt` (or `.TXT`) file, or None if it is absent or blank.

    Raises InputError for a file that is not UTF-8 or UTF-16 text.
    """
    try:
        text = decode(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
        return encodable(text).strip() or None
    except FileNotFoundError:
        upper = path.with_suffix(path.suffix.upper())  # as some Windows programs write it
        return None if upper == path else read_text(upper)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from error


def write_metadata(folder: Path, known: Mapping[Path, dict[str, Any]] | None = None) -> list[Path]:
    """Rewrite metadata.jsonl for the grid images directly in `folder`. Returns these images.

    `known` has entries that need not be read from their images again. An image without facts
    is listed with its name and caption only. An unreadable image is skipped: the command that
    needs it reports it. The provenance of a caption is kept while its text is unchanged.
    """
    images = [path for path in image_files(folder) if path.suffix.lower() in GRID_SUFFIXES]
    images = [path for path in images if is_encodable(path.name)]  # JSON holds no other name
    made = read_provenance(folder)
    path = folder / METADATA  # written line by line: a large folder has hundreds of megabytes
    with atomic_file(path, force=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        known = known or {}
        for image, entry in zip(images, map_paths(lambda i: _entry(i, known), images), strict=True):
            if entry is None:
                continue
            entry |= made.get((image.name, entry["text"]), {})
            file.write(f"{json.dumps(entry, ensure_ascii=False)}\n")
    drop_journal(folder)
    return images


def _entry(image: Path, known: Mapping[Path, dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return known.get(image) or metadata_entry(image, load_facts(image))
    except InputError:
        return None


def metadata_entry(image: Path, facts: Facts | None) -> dict[str, Any]:
    """The entry in metadata.jsonl of a grid image with these facts."""
    entry: dict[str, Any] = {"file_name": image.name, "text": read_caption(image)}
    if facts:
        known = facts.to_json()
        # `text` would hide the caption, and made_from serves later runs of pack only.
        del known["gridctl"], known["text"], known["made_from"]
        entry.update(known)
    return entry
