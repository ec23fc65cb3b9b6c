"""Progress of a verb, through a callback: verbs do not print."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # (done, total, what is being done)


def silent(done: int, total: int, text: str) -> None:
    """A callback that does nothing."""
