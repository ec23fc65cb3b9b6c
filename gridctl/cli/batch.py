"""How commands that take many files end: results, a line per failure, the exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gridctl.cli.shell import Shell
from gridctl.errors import GridctlError, PartialError

if TYPE_CHECKING:
    from gridctl.media.batch import BatchResult

_MANY = 20  # notes that are told before they are counted only


def report(shell: Shell, result: BatchResult, *, verb: str) -> None:
    """Print what was written; raise if something failed.

    A single input's failure is raised as it is. Of many, each has its line on stderr;
    then PartialError (exit code 3), or GridctlError (1) if nothing is done at all.
    """
    shell.results(
        [str(path) for path in result.written],
        {
            "written": [str(path) for path in result.written],
            "skipped": [str(path) for path in result.skipped],
            "failed": [{"path": str(f.path), "reason": f.reason} for f in result.failed],
            "notes": list(result.notes),
        },
    )
    for note in result.notes[:_MANY]:
        shell.note(one_line(f"{note}."))
    if len(result.notes) > _MANY:
        shell.note(f"... and {len(result.notes) - _MANY} notes more; --json lists them all.")
    if result.skipped:
        shell.note(f"{len(result.skipped)} were there already; --force makes them again.")
    if not result.failed:
        return
    done = len(result.written) + len(result.skipped)
    if not done and len(result.failed) == 1:
        raise GridctlError(one_line(result.failed[0].reason))
    for failure in result.failed:
        print(f"gridctl: {one_line(failure.reason)}", file=sys.stderr)
    total = done + len(result.failed)
    if not done:
        raise GridctlError(f"none of {total} could be {verb}; the lines above say why.")
    raise PartialError(f"{len(result.failed)} of {total} could not be {verb}; the rest are done.")


def one_line(text: str) -> str:
    """`text` on one line, whatever a file's name may hold."""
    return text.replace("\r", "\\r").replace("\n", "\\n")
