"""A cursor in a video: goes to a key frame, decodes from there on, and checks what comes."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.packet import Packet as AnyPacket

from gridctl.media.clip import Tick, WrongIndexError

_ONE_PACKET_A_FRAME = frozenset({"h264", "hevc"})

Packet: TypeAlias = "AnyPacket[av.VideoStream]"
Stamps: TypeAlias = npt.NDArray[np.int64]  # presentation timestamps, in the stream's time base


class Index(NamedTuple):
    """The frames of a video in the order they are shown, and its key frames."""

    stamps: Stamps
    keys: Stamps  # of the key frames, rising
    key_dts: Stamps  # their decoding timestamps, which demuxers seek by


class Cursor:
    """A place in the packets of a video, and what its decoder has been given."""

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
        self._packets = with_end(container.demux(stream))
        self._frames: deque[av.VideoFrame] = deque()
        self._start = 0  # the timestamp of the key frame that decoding started at
        self._settled = False  # whether frames after that one have come
        self._reached = -1  # the last key frame that the decoder was given
        self._due: list[int] = []  # a heap of the frames that the decoder owes
        # Frames that nothing refers to and nobody wants need not be decoded. Who skips them
        # cannot see whether all others come, so it is for codecs of one packet a frame.
        self._wanted = wanted if stream.codec_context.name in _ONE_PACKET_A_FRAME else None
        if len(wanted) == len(index.stamps):
            self._wanted = None

    def jump(self, key: int) -> None:
        """Go to this key frame unless its GOP is being decoded already."""
        if key <= self._reached:
            return
        packet, skipped = self._find(key)
        if self.packets_decoded and skipped:
            self._decoder.flush_buffers()
            self._frames.clear()
            self._due.clear()
        self._decode(packet)

    def frames(self, tick: Tick) -> Iterator[av.VideoFrame]:
        """Decode on from here; raises WrongIndexError where a frame is missing or too many."""
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
        try:
            decoded = self._decoder.decode(packet)
        except FFmpegError:
            if self._settled:
                raise
            return  # a picture that leads this key frame and needs one before it
        self._settled = self._settled or any((f.pts or 0) > self._start for f in decoded)
        self._frames.extend(decoded)

    def _find(self, key: int) -> tuple[Packet, bool]:
        """The packet of a key frame, and whether packets before it were left out."""
        self._start = stamp = int(self._index.keys[key])
        self._settled = False
        if key == self._reached + 1:  # it is the next one: read on
            packet, skipped = self._read_to(stamp)
            if packet is not None:
                return packet, skipped
        for back in (0, 1, 8, key):  # a seek may land late; then it starts from further ahead
            at = int(self._index.key_dts[max(0, key - back)])
            self._container.seek(at, stream=self._stream)
            self._packets = with_end(self._container.demux(self._stream))
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
    """The packets that hold something, then None, on which a decoder gives what it kept."""
    for packet in packets:
        if packet.size:
            yield packet
    yield None


def _contains(stamps: Stamps, stamp: int) -> bool:
    place = int(np.searchsorted(stamps, stamp))
    return place < len(stamps) and int(stamps[place]) == stamp
