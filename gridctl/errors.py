"""The errors a user can meet, and the exit code each one ends with.

Every message is one line: a fact, a limit and a remedy. Libraries raise these;
only `gridctl.__main__` catches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees when gridctl ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    INTERRUPTED = 130


class GridctlError(Exception):
    """Something that a user can put right; `str(error)` says how."""

    exit_code = ExitCode.FAILED


class UsageError(GridctlError):
    """The flags, the grid or the profile ask for something that cannot be."""

    exit_code = ExitCode.USAGE


class ProfileError(UsageError):
    """A profile with faults; all of them, each `file: key: fact; remedy`."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class InputError(GridctlError):
    """An input file cannot be used: it is missing, broken or too small."""


class PartialError(GridctlError):
    """Some inputs failed; everything else is done and kept."""

    exit_code = ExitCode.PARTIAL
