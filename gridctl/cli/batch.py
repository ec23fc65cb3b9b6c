"""The end of commands that take many files: results, a line per failure, the exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridctl.cli.shell import Shell, one_line
from gridctl.errors import GridctlError, PartialError, counted

if TYPE_CHECKING:
    from gridctl.progress import FilesResult

_MANY = 20  # kinds of lines to print; more are only counted
_OF_A_KIND = 2  # lines to print of those that differ only in names and numbers


def report(
    shell: Shell, result: FilesResult, *, verb: str, data: Mapping[str, Any] | None = None
) -> None:
    """Print what was written, with `data` added to the JSON. Raise if something failed.

    The failure of a single input is raised as it is. Many failures become lines on stderr, of
    which those that say the same are counted. Then PartialError is raised (exit code 3), or
    GridctlError (1) if nothing is done.
    """
    shell.results(
        result.written,
        {
            "written": [str(path) for path in result.written],
            "skipped": [str(path) for path in result.skipped],
            "failed": [{"path": str(f.path), "reason": f.reason} for f in result.failed],
            "notes": list(result.notes),
            **(data or {}),
        },
    )
    for line in grouped([(f"{note}.", "") for note in result.notes]):
        shell.note(line)
    if result.skipped:
        shell.note(
            f"{counted(len(result.skipped), 'output')} skipped, made before from the same inputs; "
            "--force makes them again."
        )
    if not result.failed:
        return
    done = len(result.written) + len(result.skipped)
    if not done and len(result.failed) == 1:
        raise GridctlError(one_line(result.failed[0].reason))
    for line in grouped([(failure.reason, str(failure.path)) for failure in result.failed]):
        print(f"gridctl: {line}", file=sys.stderr)
    total = done + len(result.failed)
    if not done:
        raise GridctlError(f"none of {total:,} could be {verb}; the lines above say why.")
    raise PartialError(
        f"{len(result.failed):,} of {total:,} could not be {verb}; the rest are done."
    )


def grouped(messages: Sequence[tuple[str, str]]) -> list[str]:
    """Lines for messages, each with the path that it is about, if it is known.

    Of those that differ only in names and numbers, the first ones are shown and the rest counted.
    """
    kinds: dict[str, list[str]] = {}
    for text, path in messages:
        kinds.setdefault(_kind(text, path), []).append(one_line(text))
    lines: list[str] = []
    for alike in list(kinds.values())[:_MANY]:
        shown = alike if len(alike) <= _OF_A_KIND + 1 else alike[:_OF_A_KIND]
        lines += shown
        if left := len(alike) - len(shown):
            lines.append(f"... and {left:,} more like this; --json lists all.")
    if left := sum(len(alike) for alike in list(kinds.values())[_MANY:]):
        lines.append(f"... and {left:,} others; --json lists all.")
    return lines


def _kind(text: str, path: str) -> str:
    """A message without the names and numbers in it."""
    for name in {path, path.rpartition("/")[2]} - {""}:
        text = text.replace(name, "")
    return re.sub(r"\S*[/\\]\S*|\S+\.\w+|\d+", "", text)
