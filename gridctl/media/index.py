"""The index of a video, read from its packets, and a cursor that decodes from a key frame on."""

from __future__ import annotations

import heapq
import io
import struct
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet as AnyPacket

from gridctl.errors import InputError
from gridctl.media.chunks import FIRST_BOXES, boxes
from gridctl.media.clip import Tick, WrongIndexError
from gridctl.media.truncation import is_cut_off

Packet: TypeAlias = "AnyPacket[av.VideoStream]"
Stamps: TypeAlias = npt.NDArray[np.int64]  # presentation timestamps, in the stream's time base


class Index(NamedTuple):
    """The frames of a video in the order in which they are shown, and its key frames."""

    stamps: Stamps
    keys: Stamps  # those of the key frames, increasing
    key_dts: Stamps  # the key frames' decoding timestamps, which demuxers seek by


class Skimmed(io.RawIOBase):
    """An MP4 file in storage, whose pictures read as zeros after `skim`, so that none travels.

    The index of an MP4 needs no pictures. Only FFmpeg's demuxer does not know that.
    """

    def __init__(self, file: BinaryIO, pictures: Sequence[tuple[int, int]]) -> None:
        self.name = file.name
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self._at = file.seek(0)
        self._pictures = pictures  # (start, end) of each
        self._zeros: Sequence[tuple[int, int]] = ()

    @classmethod
    def of(cls, file: BinaryIO) -> Skimmed | None:
        """None for a file of another format."""
        size = file.seek(0, io.SEEK_END)
        pictures: list[tuple[int, int]] = []
        with suppress(struct.error):
            for box in boxes(file):
                if box.start == 0 and box.name not in FIRST_BOXES:
                    break
                if box.name == b"moof":  # fragments describe themselves between the pictures
                    pictures = []
                    break
                if box.name == b"mdat":
                    end = size if box.end == box.start else min(size, box.end)
                    pictures.append((box.content, end))
        file.seek(0)
        return cls(file, pictures) if pictures else None

    def skim(self) -> None:
        """From now on, the pictures read as zeros."""
        self._zeros = self._pictures

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


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Findings in the packets of a video."""

    index: Index | None
    """None if the packets do not tell which frames there are: then decode all of them."""
    has_keys: bool
    """Whether any packet is marked as a key frame."""
    last_seconds: float
    """Time for which the last frame is shown, or 0 if the packets do not say."""

    @property
    def has_only_keys(self) -> bool:
        """Whether every frame is a key frame, and there are several."""
        return self.index is not None and 1 < len(self.index.keys) == len(self.index.stamps)


def scan_packets(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream, tick: Tick
) -> Scan:
    """Read all packets of a video. Raises InputError for a file that was cut off."""
    stamps, keys, key_dts = array("q"), array("q"), array("q")
    count, last, last_duration, before = 0, None, 0, None
    complete = timed = ordered = True
    delays: set[int] = set()  # from decoding to showing; constant if the container invents it
    for packet in _sound_packets(path, container, stream):
        tick()
        if not packet.size:
            continue  # the end, or a repeated frame of AVI
        count += 1
        if not (keys or packet.is_keyframe):
            continue  # nothing to decode it from
        if packet.pts is None:
            timed = False
            continue
        if packet.is_keyframe:
            keys.append(packet.pts)
            key_dts.append(packet.pts if packet.dts is None else packet.dts)
        if not packet.is_discard:  # an edit list may hide frames that others need
            stamps.append(packet.pts)
            if last is None or packet.pts >= last:
                last, last_duration = packet.pts, packet.duration or 0
        if packet.dts is not None:
            ordered = ordered and (before is None or packet.dts >= before)
            before = packet.dts
        complete = not packet.is_corrupt
        if len(delays) < 2:
            delays.add(packet.pts - (packet.dts or 0))
    if not complete:
        raise InputError(f"{path} is cut off in its last frame; download or export it again.")
    base = float(stream.time_base or 0)
    promised = _promised_seconds(container, stream)
    end = ((last or 0) + last_duration) * base
    start = (stream.start_time or 0) * base if "matroska" not in container.format.name else 0.0
    missing = promised - (end - start) > max(1.0, 0.05 * promised)
    cut = is_cut_off(path)
    if (cut and not 0 < stream.frames <= count) or (cut is None and missing):
        raise InputError(
            f"{path} is cut off: it ends after {end - start:.1f} seconds"
            + (f" of {promised:.1f}" if promised > end - start else "")
            + "; download or export it again."
        )
    invented = bool(stream.codec_context.has_b_frames) and len(delays) < 2
    index = _index(stamps, keys, key_dts) if timed and ordered and not invented else None
    last_seconds = last_duration * base
    if "matroska" in container.format.name and promised and last is not None:
        last_seconds = max(last_seconds, promised - last * base)
    return Scan(index=index, has_keys=bool(keys), last_seconds=last_seconds)


def _index(stamps: array[int], keys: array[int], key_dts: array[int]) -> Index | None:
    """None if frames cannot be told apart by their stamps."""
    index = Index(*(np.array(a, np.int64) for a in (stamps, keys, key_dts)))
    ordered = np.sort(index.stamps)
    if not len(index.keys) or (np.diff(ordered) <= 0).any() or (np.diff(index.keys) <= 0).any():
        return None
    # Pictures that are shown before the first key frame need one that is not there.
    ordered = ordered[ordered >= index.keys[0]]
    return index._replace(stamps=ordered) if len(ordered) else None


def _promised_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The end of the video track as its container announces it, or 0."""
    if "matroska" in container.format.name:
        with suppress(ValueError):
            parts = stream.metadata.get("DURATION", "0:0:0").split(":")
            hours, minutes, seconds = (float(part) for part in parts)
            return hours * 3600 + minutes * 60 + seconds
    if "mov" in container.format.name or container.format.name in ("mxf", "rm"):
        return float((stream.duration or 0) * (stream.time_base or 0))
    return 0.0


def demux(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Packet]:
    """The packets of a stream, then an empty one.

    PyAV fails with an IndexError after the last packet if another stream, such as sound, appeared
    while it read.
    """
    with suppress(IndexError):
        yield from container.demux(stream)


def _sound_packets(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[Packet]:
    """All packets. Raises InputError if FFmpeg skipped some.

    After damage in a Matroska file FFmpeg goes on at the next cluster, seconds later, and
    reports it in its log only.
    """
    if "matroska" not in container.format.name:
        yield from demux(container, stream)
        return
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # or the same fault in a second file goes unnoticed
    try:
        with av.logging.Capture() as lines:
            yield from demux(container, stream)
    finally:
        av.logging.set_level(before[0])
        av.logging.set_skip_repeated(before[1])
    if faults := [text.strip() for _, source, text in lines if "matroska" in source]:
        raise InputError(
            f"{path} is damaged ({faults[0].rstrip('.')}); download or export it again."
        )


_ONE_PACKET_A_FRAME = frozenset({"h264", "hevc"})


class Leading:
    """Recognizes pictures that are shown before the key frame that decoding started at.

    They need pictures before that key frame (an open GOP). A decoder gives an error or a gray
    picture for them, depending on its number of threads, so it must not get them.
    """

    def __init__(self, key: int | None) -> None:
        self._key = key
        self._over = False

    def __call__(self, packet: Packet | None) -> bool:
        if self._over or self._key is None or packet is None or packet.pts is None:
            return False
        self._over = packet.pts > self._key
        return packet.pts < self._key


class Cursor:
    """A place in the packets of a video, and the state of its decoder."""

    def __init__(
        self,
        index: Index,
        wanted: Stamps,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        decoder: av.VideoCodecContext,
    ) -> None:
        self.packets_decoded = 0
        self._index = index
        self._container = container
        self._stream = stream
        self._decoder = decoder
        self._packets = with_end(demux(container, stream))
        self._frames: deque[av.VideoFrame] = deque()
        self._start = 0  # stamp of the key frame that decoding started at
        self._is_leading = Leading(0)
        self._reached = -1  # number of the last key frame that the decoder was given
        self._due: list[int] = []  # heap of the frames that the decoder still has to give
        # Unwanted frames that no other frame refers to need not be decoded. That gives up the
        # check that every frame comes, so it is for codecs with one packet per frame.
        self._wanted = wanted if stream.codec_context.name in _ONE_PACKET_A_FRAME else None
        if len(wanted) == len(index.stamps):
            self._wanted = None

    def jump(self, key: int) -> None:
        """Go to this key frame, unless its GOP is being decoded already."""
        if key <= self._reached:
            return
        packet, skipped = self._find(key)
        if self.packets_decoded and skipped:
            self._decoder.flush_buffers()
            self._frames.clear()
            self._due.clear()
        self._decode(packet)

    def frames(self, tick: Tick) -> Iterator[av.VideoFrame]:
        """Decode on from here. Raises WrongIndexError if a frame is missing or one too many."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if self._wanted is None and (
                    not self._due or frame.pts != heapq.heappop(self._due) or frame.is_corrupt
                ):
                    raise WrongIndexError
                yield frame
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            tick()
            if not self._is_leading(packet):
                self._decode(packet)

    def _decode(self, packet: Packet | None) -> None:
        if packet is not None and packet.pts is not None:
            if packet.is_keyframe:
                reached = np.searchsorted(self._index.keys, packet.pts, side="right") - 1
                self._reached = int(reached)
            if self._wanted is not None:
                needed = _contains(self._wanted, packet.pts)
                self._decoder.skip_frame = "DEFAULT" if needed else "NONREF"
            elif not packet.is_discard and packet.pts >= self._start:
                heapq.heappush(self._due, packet.pts)
        self.packets_decoded += 1
        self._frames.extend(self._decoder.decode(packet))

    def _find(self, key: int) -> tuple[Packet, bool]:
        """The packet of a key frame, and whether packets before it were skipped."""
        self._start = stamp = int(self._index.keys[key])
        if key == self._reached + 1:  # it is the next one: read on
            packet, skipped = self._read_to(stamp)
            if packet is not None:
                if skipped or not self.packets_decoded:
                    self._is_leading = Leading(stamp)
                return packet, skipped
        self._is_leading = Leading(stamp)
        for back in (0, 1, 8, key):  # a seek may land too late, so try from further back
            at = int(self._index.key_dts[max(0, key - back)])
            self._container.seek(at, stream=self._stream)
            self._packets = with_end(demux(self._container, self._stream))
            packet, _ = self._read_to(stamp)
            if packet is not None:
                return packet, True
        raise WrongIndexError

    def _read_to(self, stamp: int) -> tuple[Packet | None, bool]:
        skipped = False
        for packet in self._packets:
            if packet is not None and packet.is_keyframe and packet.pts is not None:
                if packet.pts == stamp:
                    return packet, skipped
                if packet.pts > stamp:
                    break
            skipped = True
        return None, skipped


def with_end(packets: Iterator[Packet]) -> Iterator[Packet | None]:
    """The packets that are not empty, then None, which makes a decoder give its last frames."""
    for packet in packets:
        if packet.size:
            yield packet
    yield None


def _contains(stamps: Stamps, stamp: int) -> bool:
    place = int(np.searchsorted(stamps, stamp))
    return place < len(stamps) and int(stamps[place]) == stamp
