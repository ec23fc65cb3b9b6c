"""Progress of a verb, through a callback (verbs do not print), and the outcome of many files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int, str], None]  # (done, total, what is being done)


def silent(done: int, total: int, text: str) -> None:
    """A callback that does nothing."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An input that failed, with a reason on one line."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class FilesResult:
    """The outcome for each input (written, skipped, failed), and notes for the user."""

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    failed: tuple[Failure, ...]
    notes: tuple[str, ...] = ()
