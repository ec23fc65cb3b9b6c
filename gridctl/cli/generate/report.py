"""What generate prints of its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gridctl.cli.shell import Shell

if TYPE_CHECKING:
    from gridctl.generate import GenerateResult


def report(shell: Shell, result: GenerateResult) -> None:
    """Print what was written, with warnings and the checks that failed."""
    note_result(shell, result)
    note_skipped(shell, len(result.skipped))
    shell.results(result.written, result_json(result))


def result_json(result: GenerateResult) -> dict[str, Any]:
    """What --json prints of a result."""
    return {
        "written": list(result.written),
        "skipped": list(result.skipped),
        "checks": {str(path): checks.to_json() for path, checks in result.checks.items()},
    }


def note_result(shell: Shell, result: GenerateResult) -> None:
    """Print the warnings and the checks that failed."""
    for warning in result.warnings:
        shell.note(warning)
    for path, checks in result.checks.items():
        for check in checks.failed:
            shell.note(f"{path}: {check}")


def note_skipped(shell: Shell, count: int) -> None:
    """Print how many outputs were skipped, if any."""
    from gridctl.errors import counted

    if count:
        shell.note(
            f"{counted(count, 'output')} skipped, drawn before from the same prompt "
            "and settings; --force draws again."
        )


@contextmanager
def note_when_stopped(shell: Shell) -> Iterator[None]:
    """Say what a Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        shell.note("stopped; finished outputs stay, and the same command draws the rest")
        raise
