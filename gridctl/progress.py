"""How a verb tells how far it is: a callback, so that it never prints."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # (done, total, what is being done)


def silent(done: int, total: int, text: str) -> None:
    """The callback of callers who do not ask."""
