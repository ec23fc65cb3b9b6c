"""The errors that a user can meet, and the exit code of each.

Every message is one line: a fact, a limit and a remedy. Libraries raise these errors. Only
`gridctl.__main__` catches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of gridctl."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    INTERRUPTED = 130
    TERMINATED = 143


class GridctlError(Exception):
    """A fault that a user can fix. `str(error)` says how."""

    exit_code = ExitCode.FAILED


class UsageError(GridctlError):
    """The flags, the grid or the profile ask for something impossible."""

    exit_code = ExitCode.USAGE


class ProfileError(UsageError):
    """A profile with faults. Lists all of them, each as `file: key: fact; remedy`."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class InputError(GridctlError):
    """An input file cannot be used: it is missing, broken or too small."""


class PartialError(GridctlError):
    """Some inputs failed. The rest are done and kept."""

    exit_code = ExitCode.PARTIAL


def counted(number: int, noun: str) -> str:
    """`1 grid`, `12,000 grids`: a number with its noun, for messages."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(words: Iterable[str]) -> str:
    """`a, b or c`, for messages."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
