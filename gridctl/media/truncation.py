"""Files that are cut short: what a container promises against the size of the file.

Decoders read a cut file as a shorter one. Most containers say how long they are, in sizes
that stand ahead of the data, so a cut anywhere shows without decoding.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeAlias

from gridctl.media import stream_ends
from gridctl.media.kinds import is_transport_stream

Check: TypeAlias = Callable[[BinaryIO, int], "bool | None"]

_HEAD_BYTES = 1_024
_MISSING_SECONDS = 0.5  # an FLV file that ends sooner than announced by more than this is cut

_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MXF_KEY = b"\x06\x0e\x2b\x34"


def is_cut_off(path: Path) -> bool | None:
    """Whether the end of a file is missing. None if its format does not say.

    Knows GIF, PNG, RIFF (WebP, AVI), MP4 and its relatives, Matroska and WebM, FLV, Ogg, ASF
    (WMV), MXF, and those of `stream_ends`.
    Raises OSError for an unreadable file.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, os.SEEK_END)
        check = _check_for(head)
        file.seek(0)
        try:
            return check(file, size) if check else None
        except (struct.error, LookupError, ValueError):  # a header ends in the middle
            return True


def _check_for(head: bytes) -> Check | None:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _boxes
    if is_transport_stream(head):
        return stream_ends.transport_stream
    if head.startswith(b"\xff\xd8\xff"):
        return stream_ends.motion_jpeg
    starts: dict[bytes, Check] = {
        b"\0\0\x01\xba": stream_ends.program_stream, b"nut/": stream_ends.nut,
        b"YUV4": stream_ends.y4m, b".RMF": stream_ends.realmedia,
        b"GIF8": _gif, b"RIFF": _riff, b"\x89PNG": _png, b"\x1aE\xdf\xa3": _matroska,
        b"OggS": _ogg, b"FLV\x01": _flv, b"0&\xb2u": _asf, _MXF_KEY: _mxf,
    }  # fmt: skip
    return starts.get(head[:4])


def _gif(file: BinaryIO, size: int) -> bool:
    """Some encoders leave out the trailer, so a file is whole if it ends after an image."""
    data = file.read()
    at = 13 + gif_color_table(data[10])
    dangling = True  # whether an image is to come
    while at < size:
        kind = data[at]
        if kind == 0x3B:  # the trailer; padding may follow
            return False
        if kind == 0x2C:
            at = after_gif_blocks(data, at + 11 + gif_color_table(data[at + 9]))
            dangling = False
        elif kind == 0x21:
            dangling = dangling or data[at + 1] == 0xF9  # it announces an image
            at = after_gif_blocks(data, at + 2)
        else:  # padding between blocks
            at += 1
    return dangling or at > size


def gif_color_table(flags: int) -> int:
    """Bytes of a GIF's color table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def after_gif_blocks(data: bytes, at: int) -> int:
    """The place after a GIF's data blocks, each with its length ahead; a 0 ends them."""
    while length := data[at]:
        at += length + 1
    return at + 1


def _png(file: BinaryIO, size: int) -> bool:
    at = 8
    while at < size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        at += length + 12
        if kind == b"IEND":
            return bool(at > size)
    return True


def _riff(file: BinaryIO, size: int) -> bool | None:
    """WebP, and AVI: one RIFF chunk, or several in a row for files above 1 GB."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF":
            return False  # something else was appended
        if length in (0, 0xFFFFFFFF):
            return None  # the writer was not able to go back and fill it in
        at += 8 + length + length % 2
    return at - 1 > size  # some writers leave out the last padding byte


def _boxes(file: BinaryIO, size: int) -> bool:
    """MP4, MOV, 3GP, AVIF: a chain of boxes (ISO 14496-12, 4.2)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if not kind.replace(b"\xa9", b"c").isalnum():
            return False  # not a box: something else was appended
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0]
        if length < 8:
            return False  # 0: up to the end of the file
        at += length
    return at > size


def _matroska(file: BinaryIO, size: int) -> bool | None:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(12)
        id_length = 9 - head[0].bit_length()
        width = 9 - head[id_length].bit_length()
        length = int.from_bytes(head[id_length : id_length + width], "big") - (1 << 7 * width)
        if head[:4] == b"\x18\x53\x80\x67" and length == (1 << 7 * width) - 1:
            return None  # a live recording: the segment has no size
        at += id_length + width + length
        if head[:4] == b"\x18\x53\x80\x67":
            return at > size
    return True


def _flv(file: BinaryIO, size: int) -> bool:
    at, seconds, longest, script = 13, 0.0, 0.0, b""
    while at < size:
        file.seek(at)
        head = file.read(11)
        length = int.from_bytes(head[1:4], "big")
        stamp = int.from_bytes(head[7:8] + head[4:7], "big") / 1000
        seconds, longest = max(seconds, stamp), max(longest, stamp - seconds)
        if head[0] & 0x1F == 18 and not script:
            script = file.read(length)
        at += 11 + length + 4
    if at > size:
        return True
    if promised := _flv_number(script, b"filesize"):
        return promised > size
    return _flv_number(script, b"duration") - seconds > max(_MISSING_SECONDS, 1.5 * longest)


def _flv_number(script: bytes, key: bytes) -> float:
    """A number in the metadata of an FLV file, or 0."""
    at = script.find(struct.pack(">H", len(key)) + key) + 2 + len(key)
    if at < 2 + len(key) or script[at : at + 1] != b"\0" or len(script) < at + 9:
        return 0.0
    number: float = struct.unpack(">d", script[at + 1 : at + 9])[0]
    return number


def _ogg(file: BinaryIO, size: int) -> bool | None:
    """A page is at most 65,307 bytes long, so the last one begins in the last 70,000."""
    start = max(0, size - 70_000)
    file.seek(start)
    end = file.read()
    at = end.rfind(b"OggS")
    if at < 0:
        return True
    segments = end[at + 26]
    length = 27 + segments + sum(end[at + 27 : at + 27 + segments])
    if start + at + length > size or len(end) < at + 27 + segments:
        return True
    return False if end[at + 5] & 4 else None  # 4: the last page of its stream


def _asf(file: BinaryIO, size: int) -> bool | None:
    head = file.read(65_536)
    at = head.find(_ASF_FILE_PROPERTIES)
    if at < 0:
        return None
    promised, flags = struct.unpack("<Q40xI", head[at + 40 : at + 92])
    return None if flags & 1 else bool(promised > size)  # 1: a broadcast, of unknown size


def _mxf(file: BinaryIO, size: int) -> bool | None:
    """A chain of key, length and value (SMPTE ST 377). The first value tells where the last is."""
    file.seek(17 + max(0, file.read(17)[16] - 0x80) + 24)
    if struct.unpack(">Q", file.read(8))[0] >= size:
        return True
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(25)
        if head[:4] != _MXF_KEY:
            return False  # something else was appended
        width = head[16] - 0x80 if head[16] > 0x80 else 0
        length = int.from_bytes(head[17 : 17 + width], "big") if width else head[16]
        at += 17 + width + length
    return True if at > size else None  # a cut between two of them does not show
