"""Prompts from a file or a stream: one a line, or JSON lines with settings of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from gridctl.errors import GridctlError, InputError, ProfileError
from gridctl.generate.job import Request
from gridctl.profile import GenerateSection, Profile, parse_section
from gridctl.profile.check import nearest
from gridctl.text import decode, is_encodable, lines

_EXAMPLE = 'write {"prompt": "a red circle", "seed": 7, "steps": 10}.'
_SHOWN = 10  # wrong lines of a file that are named
_READ_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """A prompt, the keys of the profile's [generate] that its line sets, and the line's number.

    `place` is its place among the prompts of a stream. Wrong lines have one too, so that mending
    one changes no other.
    """

    text: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1
    place: int = 1


@dataclass(frozen=True, kw_only=True)
class LineReader:
    """Reads lines: a prompt, or a JSON object with `prompt` and keys of [generate], such as seed.

    `keys` are those that a line may set.
    """

    keys: Collection[str]

    def read(self, line: str, where: str, number: int, *, is_json: bool = False) -> PromptLine:
        """A stripped line that is not empty; `is_json` says that it must be JSON.

        Raises InputError, which names the line by `where`.
        """
        if not is_json and not line.startswith("{"):
            return PromptLine(text=line, number=number)
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where} is not JSON ({error}); {_EXAMPLE}") from None
        prompt = entry.get("prompt") if isinstance(entry, dict) else None
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f"{where} has no prompt; {_EXAMPLE}")
        if not is_encodable(prompt):
            raise InputError(f"{where}: the prompt is not UTF-8; save it as UTF-8.")
        settings = {key: value for key, value in entry.items() if key != "prompt"}
        for key in settings:
            if key not in self.keys:
                near = nearest(key, [*self.keys, "prompt"])
                names = f"it may have {', '.join(sorted(self.keys))}."
                meant = f"did you mean {near}?" if near else names
                raise InputError(f"{where}: {key}: a line has no such key; {meant}")
        try:
            section = parse_section(GenerateSection, settings)
        except ProfileError as error:
            raise InputError(f"{where}: {error.faults[0]}") from None
        values = {key: getattr(section, key) for key in settings}
        return PromptLine(text=prompt, settings=values, number=number)

    def read_file(self, file: Path) -> list[PromptLine]:
        """The prompts of a file; empty lines are skipped. A .jsonl file holds JSON only.

        Raises InputError for a file that cannot be read or has no prompt, or with all wrong lines.
        """
        try:
            text = decode(file.read_bytes())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{file} cannot be read as a text file ({error}); check the name."
            ) from error
        is_json = file.suffix.lower() == ".jsonl"
        found, errors = [], []
        for number, line in enumerate(lines(text), start=1):
            if not line.strip():
                continue
            try:
                found.append(
                    self.read(line.strip(), f"{file} line {number}", number, is_json=is_json)
                )
            except InputError as error:
                errors.append(str(error))
        if errors:
            more = [f"{len(errors) - _SHOWN} more lines of {file} are wrong."]
            raise InputError("\n".join(errors[:_SHOWN] + more * (len(errors) > _SHOWN)))
        if not found:
            raise InputError(f"{file} has no prompt; write one per line.")
        return found

    def read_stream(
        self, stream: BinaryIO, on_error: Callable[[int, GridctlError], None]
    ) -> Iterator[list[PromptLine]]:
        """The prompts of a stream as they come: those that are there already, together.

        A wrong line goes to `on_error` with its number. Raises InputError for an empty stream.
        """
        count = place = 0
        for group in _lines_as_they_come(stream):
            found = []
            for data in group:
                count += 1
                if not data.strip():
                    continue
                place += 1
                where = f"stdin line {count}"
                try:
                    text = data.decode("utf-8-sig").strip()
                    found.append(replace(self.read(text, where, count), place=place))
                except UnicodeDecodeError:
                    on_error(count, InputError(f"{where} is not UTF-8; send prompts as UTF-8."))
                except GridctlError as error:
                    on_error(count, error)
            yield found
        if not place:
            raise InputError("stdin has no prompt; write one per line.")


def _lines_as_they_come(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The whole lines of each read, which waits only if nothing is there."""
    rest = b""
    while data := stream.read1(_READ_BYTES):  # type: ignore[attr-defined]
        *whole, rest = (rest + data).split(b"\n")
        if whole:
            yield whole
    if rest:
        yield [rest]


def requests(
    lines: Sequence[PromptLine], request: Request, *, num: int = 1, before: int = 0
) -> Iterator[Request]:
    """`request` for each line that has settings, and for all lines between them together.

    Each prompt is drawn `num` times. Seeds count on from the line's, otherwise from the first
    prompt's, by the number of seeds that each clip takes. `before` is the number of clips that
    come before these.
    """
    digits = max(3, len(str(before + len(lines) * num)))
    count, first = before, request.profile.generate.seed
    for own, same in groupby(lines, key=lambda line: line.settings):
        texts = tuple(line.text for line in same for _ in range(num))
        steps: Iterable[int] = range(count, count + len(texts))
        if "seed" in own:
            steps = [step % num for step in range(len(texts))]
        seeds = [own.get("seed", first) + step * request.best_of for step in steps]
        yield replace(
            request,
            prompts=texts,
            seeds=tuple(seeds),
            profile=with_settings(request.profile, own),
            number=count + 1,
            digits=digits,
        )
        count += len(texts)


def with_settings(profile: Profile, settings: Mapping[str, Any]) -> Profile:
    """The profile with these keys of [generate], which were checked."""
    values = {f"generate.{key}": value for key, value in settings.items()}
    return profile.with_values(values, as_flags=True)
