"""Reading the packets of a video in storage without downloading the pictures in them.

MP4 and its relatives have all that is known about packets in one place. So the rest need not
travel to find out which frames there are: here it reads as zeros.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

_START_BYTES = 16


class Skimmed(io.RawIOBase):
    """An MP4 file, of which `skim` makes the pictures zeros."""

    def __init__(self, file: BinaryIO, media_data: list[tuple[int, int]]) -> None:
        self.name = file.name
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self._at = file.seek(0)
        self._media_data = media_data
        self._zeros: list[tuple[int, int]] = []

    @classmethod
    def of(cls, file: BinaryIO) -> Skimmed | None:
        """None for a file of another format."""
        media_data = _media_data(file)
        file.seek(0)
        return cls(file, media_data) if media_data else None

    def skim(self) -> None:
        """From now on, the media data reads as zeros."""
        self._zeros = self._media_data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        for first, last in self._zeros:
            if first <= self._at < last:
                count = min(end, last) - self._at
                buffer[:count] = bytes(count)
                break
            if self._at < first < end:
                end = first
        else:
            self._file.seek(self._at)
            data = self._file.read(max(0, end - self._at))
            count = len(data)
            buffer[:count] = data
        self._at += count
        return count


def _media_data(file: BinaryIO) -> list[tuple[int, int]]:
    """(start, end) of each mdat box; none if the file is no MP4, or one in fragments.

    Fragments have their own facts between the pictures, so all of them have to be read.
    """
    found: list[tuple[int, int]] = []
    at, size = 0, file.seek(0, io.SEEK_END)
    while at + 8 <= size:
        file.seek(at)
        head = file.read(_START_BYTES)
        length, kind = struct.unpack(">I4s", head[:8])
        start = at + 8
        if length == 1 and len(head) == _START_BYTES:
            (length,) = struct.unpack(">Q", head[8:])
            start = at + _START_BYTES
        if at == 0 and kind not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return []
        if kind == b"moof":
            return []
        if kind == b"mdat":
            found.append((start, min(size, at + length) if length else size))
        if length < 8:
            break
        at += length
    return found
