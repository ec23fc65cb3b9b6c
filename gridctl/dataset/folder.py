"""The dataset folder: grid images, a caption .txt beside each, and metadata.jsonl."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gridctl.dataset.grid_image import GRID_SUFFIXES, load_metadata
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError
from gridctl.files import append_text, atomic_file, entries, open_regular
from gridctl.machine.caches import cache_folder
from gridctl.media.images import image_files, natural_key
from gridctl.media.kinds import is_hidden
from gridctl.storage import is_remote, map_paths
from gridctl.text import decode, encodable, is_encodable, parse_json

METADATA_FILE = "metadata.jsonl"  # the only name that Hugging Face's ImageFolder looks for
JOURNAL_FILE = ".captions.jsonl"
_LONGEST_TEXT = 10**6  # bytes of a caption file
_LONGEST_LINE = 10**7  # characters; an image has at most 65 kB of metadata
FIELDS = ("caption_backend", "caption_model", "caption_prompt", "caption_content")


def note_provenance(image: Path, text: str, fields: Mapping[str, str | None]) -> None:
    """Note in the folder's journal that `fields` made the caption `text` of `image`.

    Call it before writing the caption: a line without its caption does no harm.
    Raises InputError for a folder that cannot be written.
    """
    line = json.dumps({"file_name": image.name, "text": text, **fields}, ensure_ascii=False)
    # Newline first: a crash may have cut off the last line.
    append_text(_journal(image.parent), f"\n{line}")


def read_provenance(folder: Path) -> dict[tuple[str, str], dict[str, str | None]]:
    """(file name, text) → FIELDS, from metadata.jsonl and the journal. The latest entry wins.

    Raises InputError for a file that cannot be read.
    """
    known: dict[tuple[str, str], dict[str, str | None]] = {}
    for path in (folder / METADATA_FILE, _journal(folder)):
        for entry in read_lines(path):
            fields = {field: entry[field] for field in FIELDS if field in entry}
            if fields:
                known[str(entry.get("file_name")), str(entry.get("text"))] = fields
    return known


def drop_journal(folder: Path) -> None:
    """Remove the journal. Call it when metadata.jsonl has all of it."""
    _journal(folder).unlink(missing_ok=True)


def _journal(folder: Path) -> Path:
    """The journal of a folder. That of a folder in storage, where files cannot grow, is local."""
    if not is_remote(folder):
        return folder / JOURNAL_FILE
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return cache_folder() / "journals" / f"{digest}.jsonl"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a JSONL file, without broken lines. InputError if it cannot be read."""
    try:
        file = io.BytesIO(path.read_bytes()) if is_remote(path) else open_regular(path)
        with io.TextIOWrapper(file, encoding="utf-8", errors="replace") as text:
            while line := text.readline(_LONGEST_LINE):
                with suppress(ValueError):  # cut off when the run was killed
                    entry = parse_json(line)
                    if isinstance(entry, dict):
                        yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from error


def list_grids(folder: Path) -> list[Path]:
    """All grid images in `folder` and its sub-folders, such as train/ and val/.

    In natural order, the images of a folder before its sub-folders. Hidden names, such as
    temporary files, are skipped. Raises InputError if there is no folder or no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; check the name, or make it with gridctl pack.")
    grids: list[Path] = []
    for files in walk(folder):
        images = (path for path in files if path.suffix.lower() in GRID_SUFFIXES)
        grids.extend(sorted(images, key=natural_key))
    if not grids:
        raise InputError(f"{folder} holds no grid images; make some with gridctl pack.")
    return grids


def walk(folder: Path) -> Iterator[list[Path]]:
    """The files of `folder`, then those of each folder below it, without hidden ones.

    Links to folders are not followed, because they may form circles. Raises InputError for a
    folder that cannot be read.
    """
    try:
        folders, files = entries(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); check its permissions."
        ) from error
    yield [path for path in files if not is_hidden(path.name)]
    for inner in sorted(folders, key=natural_key):
        if not is_hidden(inner.name) and not inner.is_symlink():
            yield from walk(inner)


def caption_path(image: Path) -> Path:
    """The caption file of `image`: beside it, with the suffix .txt."""
    return image.with_suffix(".txt")


def read_caption(image: Path) -> str | None:
    """The caption beside `image`, or None if the file is absent or empty."""
    return read_text(caption_path(image))


def read_text(path: Path) -> str | None:
    """The stripped text of a `.txt` (or `.TXT`) file, or None if it is absent or blank.

    Raises InputError for a file that is not UTF-8 or UTF-16 text, for one that is too long for
    a caption, and for a link to another kind of file: a folder from others may link to your own.
    """
    try:
        data = path.read_bytes() if is_remote(path) else _read_own(path)
        if len(data) > _LONGEST_TEXT:
            raise InputError(f"{path} is larger than 1 MB; a caption has a few lines.")
        text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
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


def _read_own(path: Path) -> bytes:
    """The first bytes of a file, or of one with the same suffix that it links to."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.suffix.lower() != path.suffix.lower():
        raise InputError(
            f"{path} is a link to another kind of file, {target.name}; put the text itself there."
        )
    with open_regular(target, follow=False) as file:
        return file.read(_LONGEST_TEXT + 1)


def write_metadata(folder: Path, known: Mapping[Path, dict[str, Any]] | None = None) -> list[Path]:
    """Rewrite metadata.jsonl for the grid images directly in `folder`. Returns these images.

    `known` has entries that need not be read from their images again. An image without metadata
    is listed with its name and caption only. An unreadable image is skipped: the command that
    needs it reports it. The provenance of a caption is kept while its text is unchanged.
    """
    images = [path for path in image_files(folder) if path.suffix.lower() in GRID_SUFFIXES]
    images = [path for path in images if is_encodable(path.name)]  # JSON holds no other name
    made = read_provenance(folder)
    path = folder / METADATA_FILE  # written line by line: a large folder has hundreds of megabytes
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
        return known.get(image) or metadata_entry(image, load_metadata(image))
    except InputError:
        return None


def metadata_entry(image: Path, metadata: GridMetadata | None) -> dict[str, Any]:
    """The entry in metadata.jsonl of a grid image with these metadata."""
    entry: dict[str, Any] = {"file_name": image.name, "text": read_caption(image)}
    if metadata:
        known = metadata.to_json()
        # `text` would hide the caption, and made_from serves later runs of pack only.
        del known["gridctl"], known["text"], known["made_from"]
        entry.update(known)
    return entry
