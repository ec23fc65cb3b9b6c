"""Content from existing words, which needs no model: a mapping, a text beside the clip, the
subject, or the words of its name.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import tomli

from gridctl.caption.question import Answer, Answers, Question, Reply
from gridctl.dataset.captions import FEWEST_CLIPS, NEARLY_ALL, says_nothing, words_of_name
from gridctl.dataset.folder import caption_path
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError, InputError, UsageError, counted
from gridctl.text import decode, encodable, normal_form, parse_json

_JUDGED = 1000  # grids that are looked at before the first caption is written
_REMEDY = (
    "use --mapping, a model (--backend vlm or --server), or --subject if one sentence fits all "
    "clips."
)


class NoContentError(InputError):
    """A grid without any words that say what its clip shows."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """Words that say what a grid shows, and their origin: mapping, text, subject or name."""

    words: str
    origin: str


class ContentSource:
    """Finds the content of a grid: in `mapping`, else the text that came with the clip, else
    `subject`, else the clip's name. Words that say nothing are not content.

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
        """Find what the grid shows. Raises NoContentError if nothing says it."""
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
        name = PurePosixPath(metadata.source).name
        fact = (
            f'its {said.origin} is "{said.words.strip()}"' if said else f"its clip is named {name}"
        )
        raise NoContentError(
            f"{image} has no content for a caption: {fact}, which does not say what it shows; "
            f"use --subject or --mapping, a model (--backend vlm or --server), or write "
            f"{caption_path(image).name} by hand."
        )

    def known_subject(self, image: Path, metadata: GridMetadata) -> str | None:
        """A hint for the model: the grid's line in the mapping, or the subject."""
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


class TemplateDescriber:
    """The backend `template`: answers with the content that `source` finds, without a model."""

    backend, model = "template", ""

    def __init__(self, source: ContentSource) -> None:
        self._source = source

    def describe(self, questions: Iterator[Question]) -> Answers:
        """Each question with its answer, in order.

        Raises InputError if the clips' names are all that there is, and nearly all of them say
        nothing or the same.
        """
        first = [self._answer(question) for question in islice(questions, _JUDGED)]
        _refuse_empty_names(first)
        _refuse_equal_names(first)
        yield from first
        for question in questions:
            yield self._answer(question)

    def _answer(self, question: Question) -> Answer:
        try:
            content = self._source.content(question.image, question.metadata)
        except GridctlError as error:
            return question, error
        return question, Reply(text=content.words, origin=content.origin)


def _refuse_empty_names(answers: Sequence[Answer]) -> None:
    clips = {q.metadata.source for q, reply in answers if isinstance(reply, NoContentError)}
    if len(clips) < FEWEST_CLIPS or len(clips) < len({q.metadata.source for q, _ in answers}):
        return
    name = PurePosixPath(min(clips)).name
    raise InputError(
        f"the names of all {len(clips)} clips, such as {name}, do not say what they show; {_REMEDY}"
    )


def _refuse_equal_names(answers: Sequence[Answer]) -> None:
    named = {
        question.metadata.source: reply.text
        for question, reply in answers
        if isinstance(reply, Reply) and reply.origin == "name"
    }
    if len(named) < FEWEST_CLIPS:
        return
    words, count = Counter(named.values()).most_common(1)[0]
    clips = len({question.metadata.source for question, _ in answers})
    if count >= NEARLY_ALL * clips:
        raise InputError(
            f'the names of {count} of {counted(clips, "clip")} give the same content "{words}"; '
            f"{_REMEDY}"
        )


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
        raise UsageError(f"{path} is not a mapping; use a .csv, .jsonl or .toml file.")
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
    """Names that a mapping may call a grid by, the most exact first."""
    for path in (_normal(str(image.absolute())), _normal(metadata.source)):
        parts = path.split("/")
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            yield tail
            yield tail.removesuffix(PurePosixPath(tail).suffix)


def _normal(name: str) -> str:
    """A path for comparison: normal form C, forward slashes, no `.` and `..`."""
    path = normal_form(name).replace("\\", "/")
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
            entry = parse_json(line)
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
