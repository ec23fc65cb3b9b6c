"""Ends of files whose format announces no length: MPEG streams, raw JPEGs, NUT, Y4M, RealMedia.

Their last packets say how many bytes they have, so nearly all cuts show there. A transport stream
that ends between two packets cannot be told from a recording that was stopped.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

_TS_PACKET = 188  # bytes
# Bytes from packet to packet: plain, Blu-ray and AVCHD, with error correction.
_TS_STEPS = (188, 192, 204)
_TS_TAIL = 1_000_000  # bytes; sound packets are shorter than 64 kB
_PES_START = b"\0\0\x01"
_PACK = b"\0\0\x01\xba"
_PROGRAM_END = b"\0\0\x01\xb9"
_PACK_TAIL = 200_000
_JPEG_TAIL = 16_000_000  # more than a frame has
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"  # compressed data never has these bytes
_NUT_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"
_NUT_HEADERS = (b"NM\x7a\x56\x1f\x5f\x04\xad", b"NS\x11\x40\x5b\xf2\xf9\xdb")
_NUT_TAIL = 4_000_000
_RM_SURPLUS = 18  # bytes: FFmpeg counts the header of RealMedia's data twice
# Color samples for each brightness sample, by the format in a Y4M header.
_Y4M_SAMPLES = {"420": (2, 2), "411": (4, 1), "422": (2, 1), "444": (1, 1)}


def transport_stream(file: BinaryIO, size: int) -> bool | None:
    """Whether the last packet of a transport stream (ISO 13818-1) is cut; None if it is whole."""
    tail = _tail(file, size, _TS_TAIL)
    packets = _ts_packets(tail)
    return True if packets and packets[-1] + _TS_PACKET > len(tail) else None


def ends_inside_sound(path: Path) -> bool:
    """Whether a transport stream ends between its packets, in the middle of a sound packet.

    That is how recordings end that were stopped, and some copies that were cut off.
    """
    with path.open("rb") as file:
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


def _ts_packets(tail: bytes) -> list[int]:
    """Where the packets begin. Bytes that were appended after the last one are ignored."""
    for step in _TS_STEPS:
        for start in range(len(tail) - 1, max(len(tail) - 2_000, 4 * step), -1):
            if all(tail[start - k * step] == 0x47 for k in range(5)):
                return list(range(start % step, start + 1, step))
    return []


def program_stream(file: BinaryIO, size: int) -> bool | None:
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


def motion_jpeg(file: BinaryIO, size: int) -> bool | None:
    """JPEG images one after the other, without a container: the last one must have its end."""
    tail = _tail(file, size, _JPEG_TAIL)
    end = tail.rfind(_JPEG_END)
    return tail.rfind(_JPEG_START) > end or tail[end + 2 :] == _JPEG_START[:1] or None


def nut(file: BinaryIO, size: int) -> bool | None:
    """A NUT file ends with an index, or with its header again if it was written without one."""
    tail = _tail(file, size, _NUT_TAIL)
    at = tail.rfind(_NUT_INDEX)
    if at < 0:
        return None if max(map(tail.rfind, _NUT_HEADERS)) > max(0, len(tail) - 1_000) else True
    length, after = 0, at + len(_NUT_INDEX)
    while after < len(tail):  # a number in groups of seven bits
        byte, after = tail[after], after + 1
        length = length << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return after + length > len(tail)


def y4m(file: BinaryIO, size: int) -> bool | None:
    """Frames without compression: a whole number of them follows the header."""
    head, found, _ = file.read(1_024).partition(b"\n")
    fields = {field[:1]: field[1:] for field in head.decode("latin-1").split()[1:]}
    kind = fields.get("C", "420jpeg")
    shares = _Y4M_SAMPLES.get(kind[:3])
    if not found or not (shares or kind.startswith("mono")):
        return None
    width, height = int(fields["W"]), int(fields["H"])
    samples = width * height * (2 if "alpha" in kind else 1)
    if shares:
        samples += 2 * -(-width // shares[0]) * -(-height // shares[1])
    frame = samples * (2 if re.search(r"(p|mono)(9|1\d)$", kind) else 1)
    file.seek(len(head) + 1)
    at = file.tell()
    while (line := file.readline(200)).startswith(b"FRAME"):
        at = file.seek(file.tell() + frame)
    return at > size or bool(line and b"FRAME".startswith(line))


def realmedia(file: BinaryIO, size: int) -> bool | None:
    """A chain of chunks, each with its length."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack(">4sI", file.read(8))
        if not kind.strip(b".").isalnum():
            return False  # something else was appended
        if length < 8:
            return None  # a live recording
        at += length
    return at - _RM_SURPLUS > size


def _tail(file: BinaryIO, size: int, length: int) -> bytes:
    file.seek(max(0, size - length))
    return file.read()
