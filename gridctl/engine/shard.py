"""Shards: `I/N` is the I-th of N shares of some work, counted from 1, for job arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from gridctl.errors import UsageError

_T = TypeVar("_T")


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` → (2, 8). Raises UsageError for anything else, or out of range."""
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal()):
        raise UsageError(f"shard {text!r} is unknown; write 1/8 for the first of eight.")
    return _checked((int(number), int(total)))


def take_shard(items: Iterable[_T], shard: tuple[int, int] | None) -> list[_T]:
    """Every n-th item from the i-th on, for a shard (i, n). All of them without one.

    Raises UsageError for a shard out of range.
    """
    if shard is None:
        return list(items)
    number, total = _checked(shard)
    return list(items)[number - 1 :: total]


def _checked(shard: tuple[int, int]) -> tuple[int, int]:
    number, total = shard
    if not 1 <= number <= total:
        raise UsageError(f"shard {number}/{total} is out of range; write 1/8 to 8/8.")
    return shard
