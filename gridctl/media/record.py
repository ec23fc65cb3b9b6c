"""The record, inside an output file, of how it was made."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gridctl.files import open_regular
from gridctl.media.chunks import GIF_COMMENT, gif_blocks, png_chunks, riff_chunks
from gridctl.media.truncation import is_cut_off
from gridctl.text import parse_json

RECORD_FILE = ".making.json"  # outputs of all versions have this name
_KEY = "gridctl"
_MAX_BYTES = 16_000_000  # of a record
_PNG, _JPEG, _GIF, _RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF", b"RIFF"


def record_text(record: dict[str, Any]) -> str:
    """A record as the text that files carry: ASCII, with `gridctl` among its keys."""
    return json.dumps({_KEY: 1, **record}, sort_keys=True)


def add_record(path: Path, record: str) -> None:
    """Put the record into a PNG, APNG, JPEG, WebP or GIF file, or a folder of frames.

    The writer of MP4 and WebM puts it there itself.
    """
    if path.is_dir():
        (path / RECORD_FILE).write_text(record + "\n", encoding="utf-8")
        return
    data, text = path.read_bytes(), record.encode("ascii")
    if data.startswith(_PNG):
        chunk = b"tEXt" + _KEY.encode() + b"\0" + text
        checked = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        end = data.rindex(b"IEND") - 4
        data = data[:end] + checked + data[end:]
    elif data.startswith(_JPEG):
        data = data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]
    elif data.startswith(_GIF):
        blocks = (text[at : at + 255] for at in range(0, len(text), 255))
        comment = GIF_COMMENT + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0"
        data = data[:-1] + comment + data[-1:]  # before the trailer
    elif data.startswith(_RIFF):
        data += _KEY[:4].encode() + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    path.write_bytes(data)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in an output file or folder. None if there is no such file, or a part of it."""
    try:
        if path.is_dir():
            with open_regular(path / RECORD_FILE) as file:
                return _record(file.read(_MAX_BYTES))
        if is_cut_off(path):  # on a disk that was full
            return None
        with open_regular(path) as file:
            return next(filter(None, map(_record, _texts(file, path))), None)
    except (OSError, IndexError, struct.error):
        return None


def _record(text: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and _KEY in found else None


def _texts(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The texts that stand where `add_record` puts a record."""
    head = file.read(12)
    if head.startswith(_PNG):
        for chunk in png_chunks(file):
            if chunk.name == b"tEXt":
                file.seek(chunk.content)
                yield file.read(chunk.end - 4 - chunk.content).partition(b"\0")[2]
    elif head.startswith(_RIFF):
        for chunk in riff_chunks(file):
            if chunk.name == _KEY[:4].encode():
                file.seek(chunk.content)
                yield file.read(chunk.end - chunk.content)
    elif head.startswith(_GIF):
        file.seek(0)
        data = file.read()
        for block in gif_blocks(data):
            if block.name == GIF_COMMENT:
                text, at = b"", block.content
                while length := data[at]:
                    text += data[at + 1 : at + 1 + length]
                    at += length + 1
                yield text
    elif head.startswith(_JPEG):
        at = 2
        while True:
            file.seek(at)
            mark, kind, length = struct.unpack(">BBH", file.read(4))
            if mark != 0xFF or kind in (0xD9, 0xDA):  # the end, or the picture
                return
            if kind == 0xFE:
                yield file.read(length - 2)
            at += 2 + length
    else:
        yield _comment(path)


def _comment(path: Path) -> bytes:
    """The comment of a video."""
    import av  # FFmpeg's libraries take a moment to load
    from av.error import FFmpegError

    try:
        options = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska"}
        with av.open(f"file:{path}", options=options) as container:
            tags = {name.lower(): value for name, value in container.metadata.items()}
    except (FFmpegError, ValueError):
        return b""
    return str(tags.get("comment", "")).encode()
