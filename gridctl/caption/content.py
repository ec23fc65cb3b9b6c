"""What a grid shows, in words that are there already: a mapping, the clip's text, its name."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from gridctl.errors import InputError, UsageError
from gridctl.media.dataset import caption_path
from gridctl.media.facts import Facts


@dataclass(frozen=True, kw_only=True)
class ContentSource:
    """Where content comes from: `mapping`, else the clip's text, else `subject`, else its name.

    A mapping's keys name a grid or the clip it was made of, by path, by file name or
    without the suffix; the longest name wins.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    subject: str | None = None

    def content(self, image: Path, facts: Facts) -> str:
        """What the grid shows, in words; InputError if nothing says it."""
        words = re.split(r"[\W_]+", Path(facts.source).stem)
        name = " ".join(word for word in words if word and not word.isdecimal())
        for content in (self.mapped(image, facts), facts.text, self.subject, name):
            if content and content.strip():
                return content.strip()
        raise InputError(
            f"{image} has no content to caption, for its source is named {facts.source}; "
            f"say --subject or --mapping, or write {caption_path(image).name} by hand."
        )

    def known_subject(self, image: Path, facts: Facts) -> str | None:
        """What a model is told of the grid: the mapping's line, else the subject."""
        return " ".join((self.mapped(image, facts) or self.subject or "").split()) or None

    def mapped(self, image: Path, facts: Facts) -> str | None:
        return next((self.mapping[n] for n in _names(image, facts) if n in self.mapping), None)

    def keys_of(self, image: Path, facts: Facts) -> set[str]:
        """The mapping's keys that name this grid."""
        return {name for name in _names(image, facts) if name in self.mapping}


def read_mapping(path: Path) -> dict[str, str]:
    """Name → content, from a CSV or JSONL file with file_name and text, or a TOML table.

    CSV and JSONL have the names that Hugging Face's ImageFolder has, so its metadata files
    are mappings; TOML is `"vid1" = "a red ball"`, a line a name.
    Raises InputError for a file that cannot be read or says two things of one name,
    UsageError for another suffix.
    """
    readers: dict[str, Callable[[str, Path], Iterator[tuple[str, Any, Any]]]] = {
        ".csv": _csv,
        ".jsonl": _jsonl,
        ".toml": _toml,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} is no mapping; it is a .csv, .jsonl or .toml file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its name.") from error
    mapping: dict[str, str] = {}
    for where, name, content in reader(text, path):
        if not isinstance(name, str) or not isinstance(content, str) or not name.strip():
            raise InputError(f"{path}: {where}: it needs a name and a text; write both as strings.")
        if mapping.setdefault(name.strip(), content.strip()) != content.strip():
            raise InputError(f"{path}: {where}: {name} has two texts; keep one.")
    return {name: content for name, content in mapping.items() if content}


def _names(image: Path, facts: Facts) -> Iterator[str]:
    """All that a mapping may call a grid, the most exact first."""
    for path in (image, Path(facts.source)):
        parts = path.parts
        for start in range(len(parts)):
            tail = Path(*parts[start:])
            yield tail.as_posix()
            yield tail.with_suffix("").as_posix() if tail.name else tail.as_posix()


def _csv(text: str, path: Path) -> Iterator[tuple[str, Any, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = {"file_name", "text"} - set(rows.fieldnames or ())
        if missing:
            raise InputError(
                f"{path} has no column {' and no '.join(sorted(missing))}; "
                "its first line names the columns, file_name and text."
            )
        for row in rows:
            yield f"line {rows.line_num}", row["file_name"], row["text"]
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: not CSV ({error}); correct it.") from error


def _jsonl(text: str, path: Path) -> Iterator[tuple[str, Any, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number}: not JSON ({error}); correct it.") from None
        if not isinstance(entry, dict) or "file_name" not in entry:
            raise InputError(f'{path}: line {number}: no "file_name"; every line has one.')
        if entry.get("text") is not None:  # a grid that has no caption yet
            yield f"line {number}", entry["file_name"], entry["text"]


def _toml(text: str, path: Path) -> Iterator[tuple[str, Any, Any]]:
    try:
        table = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error}); correct it.") from None
    for name, content in table.items():
        yield name, name, content
