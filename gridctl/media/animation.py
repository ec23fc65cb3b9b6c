"""Animated GIF, WebP and APNG files in which every frame has its own step, equal frames too.

Pillow and libwebp merge equal frames and have no switch for that, so they are parted again.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from gridctl.media.chunks import GIF_CONTROL, GIF_IMAGE, gif_blocks, riff_chunks
from gridctl.media.images import Picture

# A transparent pixel with a color table of its own, compressed (GIF89a, 20 to 22).
_GIF_PIXEL = struct.pack("<B4HB", 0x2C, 0, 0, 1, 1, 0x80) + bytes(6) + b"\x02\x02\x44\x01\x00"
_WEBP_ALPHA, _WEBP_ANIMATED = 0x10, 0x02


def write_animation(frames: Iterable[Picture], path: Path, fps: float, kind: str) -> None:
    """Write frames, each (H, W, 3) uint8, as a "gif", "webp" or "apng" that plays forever."""
    # Round the times, not the steps, so that no error adds up. Browsers play shorter steps than
    # these at a tenth of a second.
    unit, least = (10, 2) if kind == "gif" else (1, 11)  # milliseconds
    first, *others = (Image.fromarray(picture) for picture in frames)
    ends = [round(number * 1000 / unit / fps) for number in range(len(others) + 2)]
    steps = [max(least, end - start) for start, end in pairwise(ends)]
    options: dict[str, Any] = {"duration": [step * unit for step in steps], "loop": 0}
    if kind == "webp":
        options |= {"lossless": True, "exact": True}
    if kind == "apng":
        # Frames that differ in this are not merged when they are equal. Without transparency it
        # changes nothing else.
        options["blend"] = [number % 2 for number in range(len(steps))]
    file = io.BytesIO()
    name = {"gif": "GIF", "webp": "WEBP", "apng": "PNG"}[kind]
    first.save(file, name, save_all=True, append_images=others, **options)
    data = file.getvalue()
    if others and kind == "gif":
        data = _part_gif(data, steps)
    if others and kind == "webp":
        data = _part_webp(data, steps, first.size)
    path.write_bytes(data)


def _merged(duration: int, remaining: Iterator[int]) -> list[int]:
    """The steps that a frame of this duration was merged from."""
    steps = [next(remaining)]
    while sum(steps) < duration:
        steps.append(next(remaining))
    return steps


def _part_gif(data: bytes, steps: Sequence[int]) -> bytes:
    """A GIF whose frames are shown for these steps, in hundredths of a second."""
    remaining = iter(steps)
    blocks = list(gif_blocks(data))
    parts = [data[: blocks[0].start]]
    control = bytearray()
    for block in blocks:
        part = data[block.start : block.end]
        if block.name == GIF_CONTROL:
            control = bytearray(part)
        elif block.name == GIF_IMAGE:
            first, *held = _merged(struct.unpack("<H", control[4:6])[0], remaining)
            control[4:6] = struct.pack("<H", first)
            parts += [bytes(control), part]
            for step in held:  # dispose of nothing, color 0 is transparent
                parts += [b"\x21\xf9\x04\x05" + struct.pack("<H", step) + b"\0\0", _GIF_PIXEL]
        else:
            parts.append(part)
    return b"".join(parts)


def _part_webp(data: bytes, steps: Sequence[int], size: tuple[int, int]) -> bytes:
    """A WebP whose frames are shown for these steps, in milliseconds. `size` is the picture's."""
    remaining = iter(steps)
    still = io.BytesIO()
    Image.new("RGBA", (1, 1)).save(still, "WEBP", lossless=True, exact=True)
    pixel = b"".join(_chunk(*chunk) for chunk in _webp_chunks(still.getvalue()))
    chunks: list[tuple[bytes, bytes]] = []
    has_pixels = False
    for name, content in _animated(_webp_chunks(data), sum(steps), size):
        if name != b"ANMF":
            chunks.append((name, content))
            continue
        first, *held = _merged(int.from_bytes(content[12:15], "little"), remaining)
        chunks.append((name, content[:12] + first.to_bytes(3, "little") + content[15:]))
        for step in held:
            has_pixels = True
            chunks.append((name, bytes(12) + step.to_bytes(3, "little") + b"\0" + pixel))
    if has_pixels:
        name, content = chunks[0]
        chunks[0] = name, bytes([content[0] | _WEBP_ALPHA]) + content[1:]
    body = b"WEBP" + b"".join(_chunk(*chunk) for chunk in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(c.name, data[c.content : c.end]) for c in riff_chunks(io.BytesIO(data))]


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


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
