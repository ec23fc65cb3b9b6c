"""Prompts from a file or a stream: one a line, or JSON lines with settings of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gridctl.errors import GridctlError, InputError
from gridctl.generate.drawing import Request
from gridctl.profile import GenerateSection, Profile
from gridctl.profile.faults import faults_of
from gridctl.text import decode, is_encodable, lines

_EXAMPLE = 'write {"prompt": "a red circle", "seed": 7, "steps": 10}.'


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """A prompt, and the keys of the profile's [generate] that its line sets."""

    text: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_prompts(file: Path) -> list[PromptLine]:
    """The prompts of a file; empty lines are skipped.

    A line of a .jsonl file, and any line that is a JSON object, has `prompt` and perhaps keys of
    [generate], such as `seed`. Raises InputError for a file that cannot be read or has no
    prompt, or for a wrong line.
    """
    try:
        text = decode(file.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read as a text file ({error}); check the name."
        ) from error
    found = [
        _parse(line.strip(), f"{file} line {number}", is_json=file.suffix.lower() == ".jsonl")
        for number, line in enumerate(lines(text), start=1)
        if line.strip()
    ]
    if not found:
        raise InputError(f"{file} holds no prompt; write one per line.")
    return found


def stream_prompts(on_error: Callable[[GridctlError], None]) -> Iterator[PromptLine]:
    """The prompts of stdin, each as soon as its line is there; wrong lines go to `on_error`.

    Raises InputError if there was no line.
    """
    number = 0
    for number, data in enumerate(iter(sys.stdin.buffer.readline, b""), start=1):
        where = f"stdin line {number}"
        try:
            text = data.decode("utf-8-sig").strip()
            if text:
                yield _parse(text, where, is_json=False)
        except UnicodeDecodeError:
            on_error(InputError(f"{where} is not UTF-8; send prompts as UTF-8."))
        except GridctlError as error:
            on_error(error)
    if not number:
        raise InputError("stdin holds no prompt; write one per line.")


def _parse(line: str, where: str, *, is_json: bool) -> PromptLine:
    if not is_json and not line.startswith("{"):
        return PromptLine(text=line)
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
    try:
        Profile.model_validate({"generate": settings})
    except ValidationError as error:
        key, fact = next(faults_of(error))
        raise InputError(f"{where}: {key.removeprefix('generate.')}: {fact}") from None
    return PromptLine(text=prompt, settings=settings)


def requests(prompts: Iterable[PromptLine], request: Request, *, num: int = 1) -> Iterator[Request]:
    """`request` for each line with settings of its own, and for all lines between together.

    Each prompt is drawn `num` times. Seeds count on from the line's, otherwise from the first
    prompt's, by the number of seeds that each clip takes. Of a stream, each line is a request.
    """
    known = prompts if isinstance(prompts, list) else None
    groups: Iterator[list[PromptLine]]
    if known is None:
        groups = ([line] for line in prompts)
    else:
        groups = (list(same) for _, same in groupby(known, key=lambda line: line.settings))
    digits = max(3, len(str(len(known) * num))) if known else 3
    count, first = 0, request.profile.generate.seed
    for group in groups:
        own = group[0].settings
        texts = tuple(line.text for line in group for _ in range(num))
        steps: Iterable[int] = range(count, count + len(texts))
        if "seed" in own:
            steps = list(range(num)) * len(group)
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
    if not settings:
        return profile
    values = {**profile.generate.model_dump(), **settings}
    return profile.model_copy(update={"generate": GenerateSection.model_validate(values)})
