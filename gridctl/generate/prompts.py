"""Files of prompts: one a line, or JSON lines with a prompt and its seed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import InputError
from gridctl.text import decode, lines


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """A prompt, and its seed if the file says one."""

    text: str
    seed: int | None = None


def read_prompts(file: Path) -> list[PromptLine]:
    """The prompts of a file, or of stdin for `-`; empty lines are skipped.

    A line of a .jsonl file, and any line that is a JSON object, has `prompt` and perhaps `seed`.
    Raises InputError for a file that cannot be read or has no prompt, or for a wrong line.
    """
    try:
        text = decode(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
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


def _parse(line: str, where: str, *, is_json: bool) -> PromptLine:
    if not is_json and not line.startswith("{"):
        return PromptLine(text=line)
    remedy = 'write {"prompt": "a red circle", "seed": 7}.'
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({error}); {remedy}") from None
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
        raise InputError(f"{where} has no prompt; {remedy}")
    if unknown := sorted(set(entry) - {"prompt", "seed"}):
        raise InputError(
            f"{where} has {', '.join(unknown)}, which a prompt does not take; {remedy}"
        )
    seed = entry.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise InputError(f"{where} has the seed {seed!r}; it is a whole number from 0 on.")
    return PromptLine(text=entry["prompt"], seed=seed)


def expand(
    prompts: Sequence[PromptLine], *, num: int, first_seed: int, stride: int = 1
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(texts, seeds) with each prompt `num` times.

    Seeds count on from each line's or the first, by `stride`: the seeds that each clip takes.
    """
    texts: list[str] = []
    seeds: list[int] = []
    for prompt in prompts:
        for copy in range(num):
            texts.append(prompt.text)
            first, index = (first_seed, len(seeds)) if prompt.seed is None else (prompt.seed, copy)
            seeds.append(first + index * stride)
    return tuple(texts), tuple(seeds)
