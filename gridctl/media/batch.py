"""Batches: the outcome of a command that works on many files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An input that failed, with a reason on one line."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """The outcome for each input (written, skipped, failed), and notes for the user."""

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    failed: tuple[Failure, ...]
    notes: tuple[str, ...] = ()
