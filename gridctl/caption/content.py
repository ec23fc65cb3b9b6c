"""Content from existing words: a mapping, the text beside the clip, the subject, its name."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import tomli

from gridctl.dataset.captions import says_nothing, words_of_name
from gridctl.dataset.folder import caption_path
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError, UsageError, counted
from gridctl.text import decode, encodable


class NoContentError(InputError):
    """Nothing says what the clip of a grid shows."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a grid shows, and where the words are from: mapping, text, subject or name."""

    words: str
    origin: str


class ContentSource:
    """Finds the content of a grid: in `mapping`, else the text that came with the clip, else
    `subject`, else the clip's name. Words that say nothing are passed over.

    A mapping's keys name a grid or its clip, by path, by file name or without the suffix. The
    longest name wins. Upper and lower case, normal forms and slashes may differ.
    """

    def __init__(
        self, *, mapping: Mapping[str, str] | None = None, subject: str | None = None
    ) -> None:
        self.mapping, self.subject = mapping or {}, subject
        self._keys: dict[str, str] = {}  # name → key of the mapping
        self._folded: dict[str, str | None] = {}  # None if two keys differ in case only
        self._tails: dict[str, str | None] = {}  # None if two keys end alike
        for key in self.mapping:
            name = _normal(key)
            self._keys[name] = key
            folded = name.casefold()
            self._folded[folded] = None if folded in self._folded else key
            parts = name.split("/")
            for start in range(1, len(parts)):
                tail = "/".join(parts[start:])
                self._tails[tail] = None if tail in self._tails else key

    def content(self, image: Path, metadata: GridMetadata) -> Content:
        """What the grid shows; NoContentError if nothing says it."""
        found = (
            Content(words=self.mapped(image, metadata) or "", origin="mapping"),
            Content(words=metadata.text or "", origin="text"),
            Content(words=self.subject or "", origin="subject"),
            Content(words=words_of_name(PurePosixPath(metadata.source).stem), origin="name"),
        )
        for content in found:
            if not says_nothing(content.words):
                return Content(words=encodable(content.words).strip(), origin=content.origin)
        said = next((c for c in found[:-1] if c.words.strip()), None)
        fact = f'its {said.origin} is "{said.words.strip()}"' if said else _name_of(metadata)
        raise NoContentError(
            f"{image} has no content for a caption: {fact}, which does not say what it shows; "
            f"use --subject or --mapping, a model (--backend vlm or --server), or write "
            f"{caption_path(image).name} by hand."
        )

    def known_subject(self, image: Path, metadata: GridMetadata) -> str | None:
        """What the model learns about the grid: the line in the mapping, or the subject."""
        words = encodable(self.mapped(image, metadata) or self.subject or "")
        return " ".join(words.split()) or None

    def mapped(self, image: Path, metadata: GridMetadata) -> str | None:
        """The mapping's line about the grid."""
        key = self._key_of(image, metadata)
        return None if key is None else self.mapping[key]

    def keys_of(self, image: Path, metadata: GridMetadata) -> set[str]:
        """The mapping's keys that name this grid."""
        if not self.mapping:
            return set()
        keys = {self._lookup(name) for name in _names(image, metadata)}
        return {key for key in (*keys, self._key_of(image, metadata)) if key is not None}

    def _key_of(self, image: Path, metadata: GridMetadata) -> str | None:
        if not self.mapping:
            return None
        found = (self._lookup(name) for name in _names(image, metadata))
        return next(
            (key for key in found if key is not None), self._tails.get(_normal(metadata.source))
        )

    def _lookup(self, name: str) -> str | None:
        return self._keys.get(name) or self._folded.get(name.casefold())


def refuse_foreign_mapping(
    source: ContentSource, path: Path, grids: Iterator[tuple[Path, GridMetadata]]
) -> None:
    """Raise InputError if the mapping at `path` names none of the grids."""
    count, example = 0, None
    for image, metadata in grids:
        if source.keys_of(image, metadata):
            return
        count += 1
        example = example or (image, metadata)
    if example is None:
        return
    key = next(iter(source.mapping), None)
    has = f'it has "{key}"' if key else "it is empty"
    image, metadata = example
    raise InputError(
        f"{path} names none of {counted(count, 'grid')}: {has}, and a grid is called {image.stem}, "
        f"{image.name} or {PurePosixPath(metadata.source).name}; correct the names, or leave "
        "--mapping out."
    )


def read_mapping(path: Path) -> dict[str, str]:
    """Name → content, from a CSV or JSONL file with file_name and text, or a TOML table.

    Metadata files of Hugging Face's ImageFolder are such CSV and JSONL files. CSV may have
    commas, semicolons or tabs. TOML is `"vid1" = "a red ball"`, one name per line. Files may
    be UTF-8 or UTF-16.
    Raises InputError for a file that cannot be read or has two texts for one name, UsageError
    for another suffix.
    """
    readers: dict[str, Callable[[str, Path], Iterator[tuple[str, Any, Any]]]] = {
        ".csv": _csv,
        ".jsonl": _jsonl,
        ".toml": _toml,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} is no mapping; use a .csv, .jsonl or .toml file.")
    try:
        text = decode(path.read_bytes())
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


def _names(image: Path, metadata: GridMetadata) -> Iterator[str]:
    """All that a mapping may call a grid, the most exact first."""
    for path in (_normal(str(image.absolute())), _normal(metadata.source)):
        parts = path.split("/")
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            yield tail
            yield tail.removesuffix(PurePosixPath(tail).suffix)


def _name_of(metadata: GridMetadata) -> str:
    return f"its clip is named {PurePosixPath(metadata.source).name}"


def _normal(name: str) -> str:
    """A path for comparison: normal form C, forward slashes, no `.` and `..`."""
    path = unicodedata.normalize("NFC", name).replace("\\", "/")
    return "/".join(part for part in path.split("/") if part not in ("", ".", ".."))


def _csv(text: str, path: Path) -> Iterator[tuple[str, Any, Any]]:
    header = (text.splitlines() or [""])[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets use what is usual in a country
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
        missing = {"file_name", "text"} - set(rows.fieldnames)
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
        if entry.get("text") is not None:  # null is a grid without a caption
            yield f"line {number}", entry["file_name"], entry["text"]


def _toml(text: str, path: Path) -> Iterator[tuple[str, Any, Any]]:
    try:
        table = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error}); correct it.") from None
    for name, content in table.items():
        yield name, name, content
