"""Who made a caption: its backend, model and prompt, beside its text in metadata.jsonl.

They belong to a text: whoever edits the .txt by hand is its author, and they are dropped.
While a run lasts, they are kept in a journal, one line a caption, so that a run that is
killed after a thousand captions still knows how each was made; metadata.jsonl takes them in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gridctl.errors import InputError

METADATA = "metadata.jsonl"  # the only name that Hugging Face's ImageFolder looks for
JOURNAL = ".captions.jsonl"
FIELDS = ("caption_backend", "caption_model", "caption_prompt")


def note_provenance(image: Path, text: str, fields: Mapping[str, str | None]) -> None:
    """Add to the journal of `image`'s folder that its caption `text` was made by `fields`.

    Call it before the caption is written: a line without its caption does no harm.
    Raises InputError for a folder that cannot be written.
    """
    line = json.dumps({"file_name": image.name, "text": text, **fields}, ensure_ascii=False)
    path = image.parent / JOURNAL
    try:
        with path.open("a", encoding="utf-8") as journal:
            journal.write(f"\n{line}")  # the break first: the last line may have been cut off
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); "
            "free some space, or choose a folder that is yours to write."
        ) from error


def read_provenance(folder: Path) -> dict[tuple[str, str], dict[str, str | None]]:
    """(file name, text) → FIELDS, from metadata.jsonl and the journal; the latest word wins.

    Raises InputError for a file that cannot be read.
    """
    known: dict[tuple[str, str], dict[str, str | None]] = {}
    for name in (METADATA, JOURNAL):
        for entry in _lines(folder / name):
            fields = {field: entry[field] for field in FIELDS if field in entry}
            if fields:
                known[str(entry.get("file_name")), str(entry.get("text"))] = fields
    return known


def drop_journal(folder: Path) -> None:
    """Remove the journal, once metadata.jsonl has all of it."""
    (folder / JOURNAL).unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that was cut off when the run was killed
        if isinstance(entry, dict):
            yield entry
