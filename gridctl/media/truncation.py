"""Files that are cut off: what a container promises against the size of the file."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeAlias

from gridctl.files import open_regular
from gridctl.media.chunks import (
    FIRST_BOXES,
    GIF_CONTROL,
    GIF_IMAGE,
    GIF_TRAILER,
    boxes,
    gif_blocks,
    png_chunks,
    riff_chunks,
)
from gridctl.media.kinds import is_transport_stream

Check: TypeAlias = Callable[[BinaryIO, int], "bool | None"]

_HEAD_BYTES = 1_024
_MISSING_SECONDS = 0.5  # an FLV file that ends sooner than announced by more than this is cut
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MXF_KEY = b"\x06\x0e\x2b\x34"
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"
_JPEG_TAIL = 16_000_000  # bytes; a picture has less
_TS_PACKET = 188  # bytes
_TS_STEPS = (188, 192, 204)  # from packet to packet: plain, Blu-ray, with error correction
_TS_TAIL = 1_000_000  # bytes; sound packets are shorter than 64 kB
_PES_START = b"\0\0\x01"
_PACK = b"\0\0\x01\xba"
_PROGRAM_END = b"\0\0\x01\xb9"
_PACK_TAIL = 200_000


def is_cut_off(path: Path) -> bool | None:
    """Whether the end of a file is missing. None if its format does not say.

    Knows GIF, PNG, JPEG, RIFF (WebP, AVI), MP4 and its relatives, Matroska and WebM, FLV, Ogg, ASF
    (WMV), MXF, and MPEG transport and program streams.
    Raises OSError for an unreadable file.
    """
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, os.SEEK_END)
        check = _check_for(head)
        file.seek(0)
        try:
            return check(file, size) if check else None
        except (struct.error, LookupError, ValueError):  # a header ends in the middle
            return True


def _check_for(head: bytes) -> Check | None:
    if head[4:8] in FIRST_BOXES:
        return _mp4
    if is_transport_stream(head):
        return _transport_stream
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg
    starts: dict[bytes, Check] = {
        b"GIF8": _gif, b"\x89PNG": _png, b"RIFF": _riff, b"\x1aE\xdf\xa3": _matroska,
        b"OggS": _ogg, b"FLV\x01": _flv, b"0&\xb2u": _asf, _MXF_KEY: _mxf, _PACK: _program_stream,
    }  # fmt: skip
    return starts.get(head[:4])


def _gif(file: BinaryIO, size: int) -> bool:
    """Some encoders leave out the trailer, so a file is whole if it ends after an image."""
    has_image = False
    for block in gif_blocks(file.read()):
        if block.name == GIF_TRAILER:  # padding may follow
            return False
        has_image = block.name == GIF_IMAGE or (has_image and block.name != GIF_CONTROL)
    return not has_image


def _png(file: BinaryIO, size: int) -> bool:
    return all(chunk.name != b"IEND" or chunk.end > size for chunk in png_chunks(file))


def _jpeg(file: BinaryIO, size: int) -> bool:
    """Whether a picture has no end. A thumbnail in the header has one of its own."""
    if _tail(file, size, 2) == _JPEG_END:
        return False
    data = _tail(file, size, _JPEG_TAIL)  # compressed data never has these bytes
    return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)


def _riff(file: BinaryIO, size: int) -> bool | None:
    """WebP, and AVI: one RIFF chunk, or several in a row for files above 1 GB."""
    end = 0
    for chunk in riff_chunks(file, 0):
        if chunk.name != b"RIFF":
            return False  # something else was appended
        length = chunk.end - chunk.content
        if length in (0, 0xFFFFFFFF):
            return None  # the writer was not able to go back and fill it in
        end = chunk.end + length % 2
    return end - 1 > size  # some writers leave out the last padding byte


def _mp4(file: BinaryIO, size: int) -> bool:
    """MP4, MOV, 3GP, AVIF: a chain of boxes."""
    end = 0
    for box in boxes(file):
        if not box.name.replace(b"\xa9", b"c").isalnum():
            return False  # not a box: something else was appended
        if box.end - box.start < 8:
            return False  # 0: up to the end of the file
        end = box.end
    return end > size


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


def _transport_stream(file: BinaryIO, size: int) -> bool | None:
    """Whether the last packet of a transport stream (ISO 13818-1) is cut; None if it is whole."""
    tail = _tail(file, size, _TS_TAIL)
    packets = _ts_packets(tail)
    return True if packets and packets[-1] + _TS_PACKET > len(tail) else None


def _ts_packets(tail: bytes) -> list[int]:
    """Offsets of the packets. Bytes that were appended after the last one are ignored."""
    for step in _TS_STEPS:
        for start in range(len(tail) - 1, max(len(tail) - 2_000, 4 * step), -1):
            if all(tail[start - k * step] == 0x47 for k in range(5)):
                return list(range(start % step, start + 1, step))
    return []


def _program_stream(file: BinaryIO, size: int) -> bool | None:
    """MPEG program streams and VOB: a chain of packs and packets, with a code at the end."""
    tail = _tail(file, size, _PACK_TAIL)
    at = tail.rfind(_PACK)
    if at < 0:
        return None
    while at + 4 <= len(tail) and tail[at : at + 3] == _PES_START:
        code = tail[at : at + 4]
        if code == _PROGRAM_END:
            return False
        if code == _PACK:
            if at + 14 > len(tail):
                return True
            is_mpeg1 = tail[at + 4] >> 4 == 2
            at += 12 if is_mpeg1 else 14 + (tail[at + 13] & 7)
        else:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6].ljust(2, b"\xff"), "big")
    begun = tail[at : at + 3]  # the code of another packet, or what was appended
    return True if at > len(tail) or (begun and _PES_START.startswith(begun)) else None


def _tail(file: BinaryIO, size: int, length: int) -> bytes:
    file.seek(max(0, size - length))
    return file.read()


def ends_inside_sound(path: Path) -> bool:
    """Whether a transport stream ends between its packets, in the middle of a sound packet.

    That is how recordings end that were stopped, and some copies that were cut off.
    """
    with open_regular(path) as file:
        tail = _tail(file, file.seek(0, os.SEEK_END), _TS_TAIL)
    missing: dict[int, int] = {}  # bytes by the number of the elementary stream
    for at in _ts_packets(tail):
        packet = tail[at : at + _TS_PACKET]
        if len(packet) < _TS_PACKET or not packet[3] & 0x10:
            continue  # without payload
        number, start = int.from_bytes(packet[1:3], "big") & 0x1FFF, bool(packet[1] & 0x40)
        payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
        if start and payload.startswith(_PES_START):
            length = int.from_bytes(payload[4:6], "big")  # 0 for pictures: unknown
            missing[number] = length and 6 + length - len(payload)
        elif number in missing:
            missing[number] -= len(payload)
    return any(left > 0 for left in missing.values())
