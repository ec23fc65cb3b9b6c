"""The index of a video: its frames and key frames, read from the packets without decoding."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet as AnyPacket

from gridctl.errors import InputError
from gridctl.media.clip import Tick
from gridctl.media.truncation import is_cut_off

Packet: TypeAlias = "AnyPacket[av.VideoStream]"
Stamps: TypeAlias = npt.NDArray[np.int64]  # presentation timestamps, in the stream's time base


class Index(NamedTuple):
    """The frames of a video in the order in which they are shown, and its key frames."""

    stamps: Stamps
    keys: Stamps  # those of the key frames, increasing
    key_dts: Stamps  # the key frames' decoding timestamps, which demuxers seek by


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What the packets of a video say."""

    index: Index | None
    """None if the packets do not tell which frames there are: then decode all of them."""
    has_keys: bool
    """Whether any packet is marked as a key frame."""
    last_seconds: float
    """How long the last frame is shown, or 0 if the packets do not say."""

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
    if "mov" in container.format.name or container.format.name == "mxf":
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
