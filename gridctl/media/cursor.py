"""A cursor in a video: goes to a key frame, decodes from there on, and checks what comes.

Seeking and checking are our own: PyAV has no index of frames, and decoders that have one
(torchcodec, decord) bring CUDA or FFmpeg builds of their own and do not report damage.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

import av
import numpy as np

from gridctl.media.clip import Tick, WrongIndexError
from gridctl.media.index import Index, Packet, Stamps, demux

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
