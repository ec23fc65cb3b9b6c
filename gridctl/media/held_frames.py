"""Equal frames in GIF and WebP: encoders merge them into one that is shown longer.

That loses the number of frames, so the merged ones are split again: a frame of one pixel that
changes nothing is added for each. Neither Pillow nor libwebp has a switch for it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence

from PIL import Image

from gridctl.media.truncation import after_gif_blocks, gif_color_table

# A transparent pixel with a color table of its own, compressed (GIF89a, 20 to 22).
_GIF_PIXEL = struct.pack("<B4HB", 0x2C, 0, 0, 1, 1, 0x80) + bytes(6) + b"\x02\x02\x44\x01\x00"
_WEBP_ALPHA, _WEBP_ANIMATED = 0x10, 0x02


def split_gif(data: bytes, steps: Sequence[int]) -> bytes:
    """A GIF whose frames are shown for these steps, in hundredths of a second."""
    remaining = iter(steps)
    at = 13 + gif_color_table(data[10])
    parts = [data[:at]]
    control = bytearray()
    while data[at] != 0x3B:
        start = at
        if data[at] == 0x2C:
            at = after_gif_blocks(data, at + 11 + gif_color_table(data[at + 9]))
            shown = _steps(struct.unpack("<H", control[4:6])[0], remaining)
            control[4:6] = struct.pack("<H", shown[0])
            parts += [bytes(control), data[start:at]]
            for step in shown[1:]:  # dispose of nothing, color 0 is transparent
                parts += [b"\x21\xf9\x04\x05" + struct.pack("<H", step) + b"\0\0", _GIF_PIXEL]
            continue
        at = after_gif_blocks(data, at + 2)
        if data[start + 1] == 0xF9:
            control = bytearray(data[start:at])
        else:
            parts.append(data[start:at])
    return b"".join([*parts, data[at:]])


def split_webp(data: bytes, steps: Sequence[int], size: tuple[int, int]) -> bytes:
    """A WebP whose frames are shown for these steps, in milliseconds. `size` is the picture's."""
    remaining = iter(steps)
    chunks: list[tuple[bytes, bytes]] = []
    pixel = b"".join(_chunk(*found) for found in _webp_chunks(_still(Image.new("RGBA", (1, 1)))))
    held = False
    for name, payload in _animated(list(_webp_chunks(data)), sum(steps), size):
        if name != b"ANMF":
            chunks.append((name, payload))
            continue
        shown = _steps(int.from_bytes(payload[12:15], "little"), remaining)
        chunks.append((name, payload[:12] + shown[0].to_bytes(3, "little") + payload[15:]))
        for step in shown[1:]:
            held = True
            chunks.append((name, bytes(12) + step.to_bytes(3, "little") + b"\0" + pixel))
    if held:
        flags = bytearray(chunks[0][1])
        flags[0] |= _WEBP_ALPHA
        chunks[0] = (chunks[0][0], bytes(flags))
    body = b"WEBP" + b"".join(_chunk(*chunk) for chunk in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _steps(duration: int, remaining: Iterator[int]) -> list[int]:
    """The steps that a frame of this duration was merged from."""
    steps = [next(remaining)]
    while sum(steps) < duration:
        steps.append(next(remaining))
    return steps


def _animated(
    chunks: list[tuple[bytes, bytes]], duration: int, size: tuple[int, int]
) -> list[tuple[bytes, bytes]]:
    """The chunks of an animation. libwebp writes a still picture if all frames are equal."""
    if chunks[0][0] == b"VP8X":
        return chunks
    width, height = ((side - 1).to_bytes(3, "little") for side in size)
    frame = bytes(6) + width + height + duration.to_bytes(3, "little") + b"\0"
    return [
        (b"VP8X", bytes([_WEBP_ANIMATED, 0, 0, 0]) + width + height),
        (b"ANIM", bytes(6)),  # plays forever
        (b"ANMF", frame + b"".join(_chunk(*chunk) for chunk in chunks)),
    ]


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack("<4sI", data[at : at + 8])
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def _still(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()
