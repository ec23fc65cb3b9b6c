"""The end of commands that take many files: results, a line per failure, the exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gridctl.cli.shell import Shell
from gridctl.errors import GridctlError, PartialError, counted

if TYPE_CHECKING:
    from gridctl.media.batch import BatchResult

_MANY = 20  # notes to print; more are only counted


def report(
    shell: Shell, result: BatchResult, *, verb: str, data: Mapping[str, Any] | None = None
) -> None:
    """Print what was written, with `data` added to the JSON. Raise if something failed.

    The failure of a single input is raised as it is. Of many failures each gets a line on
    stderr, then PartialError is raised (exit code 3), or GridctlError (1) if nothing is done.
    """
    shell.results(
        [str(path) for path in result.written],
        {
            "written": [str(path) for path in result.written],
            "skipped": [str(path) for path in result.skipped],
            "failed": [{"path": str(f.path), "reason": f.reason} for f in result.failed],
            "notes": list(result.notes),
            **(data or {}),
        },
    )
    for note in result.notes[:_MANY]:
        shell.note(one_line(f"{note}."))
    if len(result.notes) > _MANY:
        shell.note(f"... and {counted(len(result.notes) - _MANY, 'more note')}; --json lists all.")
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
    for failure in result.failed:
        print(f"gridctl: {one_line(failure.reason)}", file=sys.stderr)
    total = done + len(result.failed)
    if not done:
        raise GridctlError(f"none of {total:,} could be {verb}; the lines above say why.")
    raise PartialError(
        f"{len(result.failed):,} of {total:,} could not be {verb}; the rest are done."
    )


def one_line(text: str) -> str:
    """`text` on one line, even if a file's name has line breaks."""
    return text.replace("\r", "\\r").replace("\n", "\\n")
