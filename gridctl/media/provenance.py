"""Provenance of captions: the backend, model and prompt that made each text.

It is listed in metadata.jsonl and belongs to the text: editing the .txt by hand drops it.
During a run it goes to a journal, one line per caption, so that a run that is killed after a
thousand captions loses none of it. Writing metadata.jsonl takes the journal in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gridctl.errors import InputError
from gridctl.files import cannot_write
from gridctl.machine.caches import cache_folder
from gridctl.storage import is_remote

METADATA = "metadata.jsonl"  # the only name that Hugging Face's ImageFolder looks for
JOURNAL = ".captions.jsonl"
FIELDS = ("caption_backend", "caption_model", "caption_prompt", "caption_content")


def note_provenance(image: Path, text: str, fields: Mapping[str, str | None]) -> None:
    """Note in the folder's journal that `fields` made the caption `text` of `image`.

    Call it before writing the caption: a line without its caption does no harm.
    Raises InputError for a folder that cannot be written.
    """
    line = json.dumps({"file_name": image.name, "text": text, **fields}, ensure_ascii=False)
    path = _journal(image.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as journal:
            journal.write(f"\n{line}")  # newline first: a crash may have cut off the last line
    except OSError as error:
        raise cannot_write(path, error) from error


def read_provenance(folder: Path) -> dict[tuple[str, str], dict[str, str | None]]:
    """(file name, text) → FIELDS, from metadata.jsonl and the journal. The latest entry wins.

    Raises InputError for a file that cannot be read.
    """
    known: dict[tuple[str, str], dict[str, str | None]] = {}
    for path in (folder / METADATA, _journal(folder)):
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
        return folder / JOURNAL
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return cache_folder() / "journals" / f"{digest}.jsonl"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a JSONL file, without broken lines. InputError if it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from error
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off when the run was killed
        if isinstance(entry, dict):
            yield entry
