"""A file in storage that is read by ranges: only the parts that a reader asks for travel."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

BLOCK = 128 * 1024
_MOST_AHEAD = 64  # blocks to read at once where a reader goes straight on: 8 MB
_KEPT = 512  # blocks of the last files that stay in memory: 64 MB


def open_ranges(
    read: Callable[[int, int], bytes], *, name: str, size: int, key: Hashable
) -> io.BufferedReader:
    """A file of `size` bytes, of which `read(start, end)` returns a part.

    `key` stands for its content: files with the same key share blocks.
    """
    return io.BufferedReader(_Ranges(read, name, size, key), BLOCK)


class _Ranges(io.RawIOBase):
    """Reads whole blocks, and more of them at once the longer a reader goes straight on.

    Blocks stay in memory for a while, because a video is opened more than once.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], name: str, size: int, key: Hashable
    ) -> None:
        self.name = name  # FFmpeg looks at its suffix
        self._read = read
        self._size = size
        self._key = key
        self._at = 0
        self._next = -1  # the block after the last that was fetched
        self._run = 0  # blocks that were fetched one after the other

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + {0: 0, 1: self._at, 2: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        number, start = divmod(self._at, BLOCK)
        part = self._block(number)[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _block(self, number: int) -> bytes:
        kept = _blocks.get((self._key, number))
        if kept is not None:
            return kept
        if number != self._next:
            self._run = 0
        ahead = max(1, min(self._run // 2, _MOST_AHEAD))  # at most a third is read in vain
        start = number * BLOCK
        data = self._read(start, min(start + ahead * BLOCK, self._size))
        self._next = number + ahead
        self._run += ahead
        for place in range(0, len(data), BLOCK):
            _blocks.put((self._key, number + place // BLOCK), data[place : place + BLOCK])
        return data[:BLOCK]


class _Blocks:
    """The blocks that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Any, block: bytes) -> None:
        with self._lock:
            self._kept[key] = block
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)


_blocks = _Blocks()
