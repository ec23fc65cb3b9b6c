"""A video file as a clip (PyAV): an index of its frames first, then only the GOPs it needs.

The index comes from the packets, without decoding. Where frames are wanted, decoding starts
at the last key frame before them, so it costs at most a GOP for each. What comes out is held
against the index; a file whose packets and frames disagree is indexed again by decoding it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from gridctl.errors import InputError
from gridctl.media.clip import Ordinals, Seconds, Tick, WrongIndexError
from gridctl.media.convert import Converter
from gridctl.media.cursor import Cursor, Index, Packet, Stamps, with_end
from gridctl.media.fit import Fit
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture

# Codecs whose key frames need nothing that came before: decoding may start there. Others
# (GIF-like ones that build on all earlier frames, rare ones) are decoded from the start.
_STARTS_AT_KEYS = frozenset({
    "av1", "dnxhd", "ffv1", "h263", "h264", "hevc", "jpeg2000", "mjpeg", "mpeg1video",
    "mpeg2video", "mpeg4", "png", "prores", "rawvideo", "theora", "vc1", "vp8", "vp9", "wmv3",
})  # fmt: skip
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave transparency out
_MAX_PIXELS = 178_956_970  # of a frame: the limit that Pillow has for images


class Video:
    """A video file; its best video stream counts, and neither sound nor cover art."""

    def __init__(self, path: Path, *, decode: bool, threads: int, tick: Tick) -> None:
        self.packets_decoded = 0
        """How many packets `cells` has decoded so far; seeking keeps this small."""
        self._path = path
        self._threads = threads
        self._tick = tick
        self._hdr: str | None = None
        with self._open() as (container, stream):
            self.fps = float(stream.average_rate or stream.guessed_rate or IMAGE_SEQUENCE_FPS)
            self._base = stream.time_base or Fraction(1, 90_000)
            self._can_start_at_keys = stream.codec_context.name in _STARTS_AT_KEYS
            index = self._index_packets(container, stream)
            self._index = None if decode else index
        stamps = self._index_frames() if self._index is None else self._index.stamps
        self.times_seconds: Seconds = (stamps - stamps[:1]) * float(self._base)
        self.duration_seconds = float(self.times_seconds[-1]) + 1 / self.fps

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        converter: Converter | None = None
        for frame, pixel_aspect in self._indexed(frames) if self._index else self._counted(frames):
            if converter is None:
                converter = Converter(fit, pixel_aspect)
            yield converter.cell(frame)
            self._hdr = converter.hdr

    def notes(self) -> Sequence[str]:
        if not self._hdr:
            return ()
        return (f"is HDR ({self._hdr}) and was tone-mapped to SDR",)

    # ------------------------------------------------------------ the index

    def _index_packets(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Index | None:
        """The index, without decoding; None if the packets do not tell."""
        stamps, keys, key_dts = array("q"), array("q"), array("q")
        complete = True
        delays: set[int] = set()  # from decoding to showing; constant if they are not really told
        timed = True
        seconds_told = _duration(container, stream)
        for packet in self._sound_packets(container, stream):
            self._tick()
            if not packet.size or not (keys or packet.is_keyframe):
                continue  # the end, a repeated frame of AVI, or what no key frame came before
            if packet.pts is None:
                timed = False
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)
                key_dts.append(packet.pts if packet.dts is None else packet.dts)
            if not packet.is_discard:  # an edit list may skip frames that others need
                stamps.append(packet.pts)
            complete = not packet.is_corrupt
            if len(delays) < 2:
                delays.add(packet.pts - (packet.dts or 0))
        if not complete:
            raise InputError(
                f"{self._path} is cut off in its last frame; download or export it again."
            )
        if not timed or not stamps or (stream.codec_context.has_b_frames and len(delays) < 2):
            return None  # AVI, say, tells when frames are decoded and not when they are shown
        seconds = max(stamps) * float(self._base)
        if seconds_told - seconds > max(1.0, 0.05 * seconds_told):
            raise InputError(
                f"{self._path} should last {seconds_told:.1f} seconds and ends after "
                f"{seconds:.1f}; it is cut off, so download or export it again."
            )
        index = Index(*(np.array(a, np.int64) for a in (stamps, keys, key_dts)))
        ordered = np.sort(index.stamps)
        if not len(keys) or (np.diff(ordered) <= 0).any() or (np.diff(index.keys) <= 0).any():
            return None
        # Pictures that lead the first key frame need one that is not there.
        return index._replace(stamps=ordered[ordered >= index.keys[0]])

    def _sound_packets(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[Packet]:
        """All packets; an InputError if FFmpeg left some out.

        Where a Matroska file is damaged it goes on at the next cluster, seconds later, and says
        so in its log alone.
        """
        if "matroska" not in container.format.name:
            yield from container.demux(stream)
            return
        before = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)  # or a second file's fault is taken for the first's
        try:
            with av.logging.Capture() as lines:
                yield from container.demux(stream)
        finally:
            av.logging.set_level(before[0])
            av.logging.set_skip_repeated(before[1])
        if faults := [text.strip() for _, source, text in lines if "matroska" in source]:
            raise InputError(
                f"{self._path} is damaged ({faults[0].rstrip('.')}); download or export it again."
            )

    def _index_frames(self) -> Stamps:
        """The timestamps of all frames that decoding gives, in the order it gives them."""
        stamps = array("q")
        step = max(1, round(1 / (self.fps * self._base)))
        for frame, _ in self._decode_all():
            last = stamps[-1] if stamps else -step
            stamps.append(last + step if frame.pts is None else max(frame.pts, last + 1))
        if not stamps:
            raise InputError(
                f"{self._path} has no frame that can be decoded; replace it or leave it out."
            )
        return np.array(stamps, np.int64)

    # ------------------------------------------------------------ frames

    def _counted(self, frames: Ordinals) -> Iterator[tuple[av.VideoFrame, float]]:
        """The frames with these numbers, by decoding all that come before."""
        wanted = map(int, frames)
        following = next(wanted, None)
        for number, decoded in enumerate(self._decode_all()):
            if number == following:
                yield decoded
                following = next(wanted, None)
                if following is None:
                    return
        if following is not None:
            raise InputError(f"{self._path} changed while it was read; run the command again.")

    def _decode_all(self) -> Iterator[tuple[av.VideoFrame, float]]:
        shown = False
        seconds = 0.0
        with self._open() as (container, stream):
            decoder, aspect = self._decoder(stream), _pixel_aspect(stream)
            for packet in with_end(container.demux(stream)):
                self._tick()
                try:
                    decoded = decoder.decode(packet)
                except FFmpegError as error:
                    if not shown:
                        continue  # it starts in the middle: nothing to decode from yet
                    raise InputError(
                        f"{self._path} is damaged {seconds:.1f} seconds in ({error.strerror}); "
                        "download or export it again, or leave the rest out with --end."
                    ) from error
                for frame in decoded:
                    shown = True
                    seconds += 1 / self.fps
                    yield frame, aspect

    def _indexed(self, frames: Ordinals) -> Iterator[tuple[av.VideoFrame, float]]:
        """The frames with these numbers, each decoded from the last key frame before it on."""
        assert self._index
        stamps, keys, _ = self._index
        wanted = stamps[frames]
        key_of = np.searchsorted(keys, wanted, side="right") - 1
        if not self._can_start_at_keys:
            key_of[:] = 0
        with self._open() as (container, stream):
            aspect = _pixel_aspect(stream)
            cursor = Cursor(self._index, wanted, container, stream, self._decoder(stream))
            for stamp, key in zip(map(int, wanted), map(int, key_of), strict=True):
                try:
                    cursor.jump(key)
                    for frame in cursor.frames(self._tick):
                        if frame.pts == stamp:
                            break
                        if frame.pts is None or frame.pts > stamp:
                            raise WrongIndexError
                    else:
                        raise WrongIndexError
                except FFmpegError as error:  # decoding all of it will tell whether it is damaged
                    raise WrongIndexError from error
                finally:
                    self.packets_decoded = cursor.packets_decoded
                yield frame, aspect

    def _decoder(self, stream: av.VideoStream) -> av.VideoCodecContext:
        name = _ALPHA_DECODERS.get(stream.codec_context.name)
        decoder = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1" and name in av.codecs_available:
            created = av.CodecContext.create(name, "r")
            assert isinstance(created, av.VideoCodecContext)
            decoder = created
        decoder.thread_type = "AUTO" if self._threads > 1 else "NONE"
        decoder.thread_count = self._threads
        # Damage is told, not painted over; and a header cannot ask for any amount of memory.
        decoder.options = {"err_detect": "explode", "max_pixels": str(_MAX_PIXELS)}
        return decoder

    @contextmanager
    def _open(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        """Open the video; what FFmpeg cannot do with it, here or in the block, is an InputError."""
        try:
            # "file:" keeps FFmpeg from taking a name with a colon or a dash for a protocol, and
            # the whitelist a playlist from reaching out for other files.
            with av.open(
                f"file:{self._path}",
                metadata_errors="replace",
                options={"protocol_whitelist": "file"},
            ) as container:
                yield container, _best_stream(container, self._path)
        except (FFmpegError, OSError, ValueError) as error:
            fact = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self._path} cannot be read as a video ({fact}); replace it or leave it out."
            ) from error


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The seconds of video that a Matroska file promises, which can be cut off unnoticed; 0 else.

    Other formats find out by themselves, or cannot know.
    """
    hours, minutes, seconds = 0.0, 0.0, 0.0
    if "matroska" in container.format.name:
        with suppress(ValueError):
            told = stream.metadata.get("DURATION", "0:0:0")
            hours, minutes, seconds = (float(part) for part in told.split(":"))
    return hours * 3600 + minutes * 60 + seconds


def _best_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The largest picture's stream, as ffmpeg chooses; cover art is none."""
    films = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None  # a codec that FFmpeg does not know
        and not stream.disposition & Disposition.attached_pic
    ]
    if not films or container.format.name == "tty":  # FFmpeg's way to "play" a text file
        raise InputError(f"{path} has no video stream; leave it out.")
    return max(films, key=lambda film: film.codec_context.width * film.codec_context.height)


def _pixel_aspect(stream: av.VideoStream) -> float:
    """Width over height of a pixel; 1 where nothing, or nothing sane, is said."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 16 <= aspect <= 16 else 1.0
