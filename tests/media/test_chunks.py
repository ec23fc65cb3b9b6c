"""The chains of blocks, chunks and boxes, written by hand."""

import io
import struct

import pytest

from gridctl.media.chunks import Chunk, boxes, gif_blocks, png_chunks, riff_chunks


def test_riff_chunks_are_padded_to_even_lengths() -> None:
    inner = b"ODD " + struct.pack("<I", 3) + b"abc\0" + b"EVEN" + struct.pack("<I", 2) + b"de"
    file = io.BytesIO(b"RIFF" + struct.pack("<I", 4 + len(inner)) + b"WEBP" + inner)
    assert list(riff_chunks(file)) == [Chunk(b"ODD ", 12, 20, 23), Chunk(b"EVEN", 24, 32, 34)]
    assert list(riff_chunks(file, 0)) == [Chunk(b"RIFF", 0, 8, 34)]


def test_png_chunks_end_with_a_checksum() -> None:
    parts = struct.pack(">I", 3) + b"tEXtabc1234" + struct.pack(">I", 0) + b"IEND1234"
    found = list(png_chunks(io.BytesIO(b"\x89PNG\r\n\x1a\n" + parts + b"tail")))
    assert found == [Chunk(b"tEXt", 8, 16, 23), Chunk(b"IEND", 23, 31, 35)]


def test_boxes_have_three_kinds_of_length() -> None:
    file = io.BytesIO(
        struct.pack(">I4sI", 12, b"ftyp", 7)
        + struct.pack(">I4sQ", 1, b"mdat", 20) + b"1234"  # of 64 bits
        + struct.pack(">I4s", 0, b"moov") + bytes(99)  # up to the end
    )  # fmt: skip
    assert list(boxes(file)) == [
        Chunk(b"ftyp", 0, 8, 12), Chunk(b"mdat", 12, 28, 32), Chunk(b"moov", 32, 40, 32),
    ]  # fmt: skip
    with pytest.raises(struct.error):
        list(boxes(io.BytesIO(struct.pack(">I4sI", 1, b"mdat", 0))))


@pytest.mark.parametrize("padding", [b"", b"\0\0"])
def test_gif_blocks(padding: bytes) -> None:
    head = b"GIF89a" + struct.pack("<2HBBB", 1, 1, 0x80, 0, 0) + bytes(6)  # two colors
    comment = b"!\xfe\x02ab\x01c\0"
    image = b"," + bytes(8) + b"\x80" + bytes(6) + b"\x02" + b"\x01D\0"  # colors of its own
    data = head + comment + padding + image + b";" + b"junk"
    at = 19 + len(comment) + len(padding)
    assert list(gif_blocks(data)) == [
        Chunk(b"!\xfe", 19, 21, 27),
        Chunk(b",", at, at + 17, at + len(image)),
        Chunk(b";", at + len(image), at + len(image) + 1, at + len(image) + 1),
    ]
    for cut in (at + 5, at + len(image) - 1):
        with pytest.raises(IndexError):
            list(gif_blocks(data[:cut]))
