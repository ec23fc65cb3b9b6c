"""The parts that media files are chains of: GIF blocks, PNG and RIFF chunks, MP4 boxes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class Chunk(NamedTuple):
    """A part of a file: where it begins, where its content begins, where it ends.

    The end may lie beyond that of a file that was cut off.
    """

    name: bytes
    start: int
    content: int
    end: int


GIF_IMAGE, GIF_EXTENSION, GIF_TRAILER = b",", b"!", b";"
GIF_CONTROL, GIF_COMMENT = b"!\xf9", b"!\xfe"


def gif_blocks(data: bytes) -> Iterator[Chunk]:
    """The blocks of a GIF (GIF89a, appendix A), up to its trailer or the end of the data.

    The name is "," for an image, ";" for the trailer, "!" and its label for an extension.
    Padding between blocks is skipped. Raises IndexError if the data end inside a block.
    """
    at = 13 + _gif_color_table(data[10])
    while at < len(data):
        start, name = at, data[at : at + 1]
        if name == GIF_IMAGE:
            content = at + 11 + _gif_color_table(data[at + 9])
        elif name == GIF_EXTENSION:
            name, content = data[at : at + 2], at + 2
        elif name == GIF_TRAILER:
            yield Chunk(name, at, at + 1, at + 1)
            return
        else:
            at += 1
            continue
        at = content
        while length := data[at]:  # data come in pieces, each with its length ahead
            at += length + 1
        at += 1
        yield Chunk(name, start, content, at)


def _gif_color_table(flags: int) -> int:
    """Bytes of a color table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def png_chunks(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a PNG (third edition, 5.3)."""
    at = 8
    while len(head := _read(file, at, 8)) == 8:
        length, name = struct.unpack(">I4s", head)
        yield Chunk(name, at, at + 8, at + 12 + length)
        at += 12 + length


def riff_chunks(file: BinaryIO, at: int = 12) -> Iterator[Chunk]:
    """The chunks of a RIFF file from `at` on: those inside the first RIFF chunk, or from 0 on."""
    while len(head := _read(file, at, 8)) == 8:
        name, length = struct.unpack("<4sI", head)
        yield Chunk(name, at, at + 8, at + 8 + length)
        at += 8 + length + length % 2


# How MP4 and its relatives begin.
FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})


def boxes(file: BinaryIO) -> Iterator[Chunk]:
    """The boxes of an MP4, MOV, 3GP or AVIF file (ISO 14496-12, 4.2).

    One of less than 8 bytes is the last: it goes on to the end of the file, or is damaged.
    Raises struct.error if the file ends inside the header of a box.
    """
    at = 0
    while len(head := _read(file, at, 16)) >= 8:
        length, name = struct.unpack(">I4s", head[:8])
        content = at + 8
        if length == 1:
            (length,), content = struct.unpack(">Q", head[8:]), at + 16
        yield Chunk(name, at, content, at + length)
        if length < 8:
            return
        at += length


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
