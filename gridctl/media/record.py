"""The record, inside an output file, of how it was made."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gridctl.media.truncation import after_gif_blocks, gif_color_table

FOLDER_FILE = ".record.json"
_KEY = "gridctl"
_PNG_START = b"\x89PNG\r\n\x1a\n"


def record_text(record: dict[str, Any]) -> str:
    """A record as the text that files carry: ASCII, with `gridctl` among its keys."""
    return json.dumps({_KEY: 1, **record}, sort_keys=True)


def add_record(path: Path, record: str) -> None:
    """Put the record into a PNG, APNG, JPEG, WebP or GIF file, or a folder of frames.

    The writer of MP4 and WebM puts it there itself.
    """
    if path.is_dir():
        (path / FOLDER_FILE).write_text(record + "\n", encoding="utf-8")
        return
    data, text = path.read_bytes(), record.encode("ascii")
    if data.startswith(_PNG_START):
        end = data.rindex(b"IEND") - 4
        data = data[:end] + _png_chunk(b"tEXt", _KEY.encode() + b"\0" + text) + data[end:]
    elif data.startswith(b"\xff\xd8"):
        data = data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]
    elif data.startswith(b"GIF"):
        blocks = (text[at : at + 255] for at in range(0, len(text), 255))
        comment = b"!\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0"
        data = data[:-1] + comment + data[-1:]  # before the trailer
    elif data.startswith(b"RIFF"):
        data += _KEY[:4].encode() + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    path.write_bytes(data)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in an output file or folder. None if there is none, or no such file."""
    try:
        if path.is_dir():
            return _record((path / FOLDER_FILE).read_bytes())
        with path.open("rb") as file:
            head = file.read(12)
        for start, texts in _TEXTS.items():
            if head.startswith(start):
                data = path.read_bytes()
                return next(filter(None, map(_record, texts(data))), None)
        return _record(_comment(path))
    except (OSError, IndexError, struct.error):
        return None


def _record(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and _KEY in found else None


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _png_texts(data: bytes) -> list[bytes]:
    texts, at = [], len(_PNG_START)
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"tEXt":
            texts.append(data[at + 8 : at + 8 + length].partition(b"\0")[2])
        at += length + 12
    return texts


def _jpeg_texts(data: bytes) -> list[bytes]:
    texts, at = [], 2
    while data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if data[at + 1] == 0xFE:
            texts.append(data[at + 4 : at + 2 + length])
        at += 2 + length
    return texts


def _gif_texts(data: bytes) -> list[bytes]:
    texts, at = [], 13 + gif_color_table(data[10])
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            at = after_gif_blocks(data, at + 11 + gif_color_table(data[at + 9]))
            continue
        end = after_gif_blocks(data, at + 2)
        if data[at + 1] == 0xFE:
            text, block = b"", at + 2
            while length := data[block]:
                text += data[block + 1 : block + 1 + length]
                block += length + 1
            texts.append(text)
        at = end
    return texts


def _riff_texts(data: bytes) -> list[bytes]:
    texts, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        if kind == _KEY[:4].encode():
            texts.append(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return texts


_TEXTS: dict[bytes, Callable[[bytes], list[bytes]]] = {
    _PNG_START: _png_texts,
    b"\xff\xd8": _jpeg_texts,
    b"GIF": _gif_texts,
    b"RIFF": _riff_texts,
}


def _comment(path: Path) -> bytes:
    import av  # FFmpeg's libraries take a moment to load
    from av.error import FFmpegError

    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            tags = {name.lower(): value for name, value in container.metadata.items()}
    except (FFmpegError, ValueError):
        return b""
    return str(tags.get("comment", "")).encode()
