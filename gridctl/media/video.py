"""A video file as a clip (PyAV): index its frames first, then decode only the GOPs it needs.

The index comes from the packets, without decoding. Where frames are wanted, decoding starts
at the last key frame before them, so each costs at most a GOP. The decoder's frames are
checked against the index. A file whose packets and frames disagree is decoded as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from gridctl.errors import InputError
from gridctl.media.clip import (
    LONGEST_SECONDS,
    Ordinals,
    Seconds,
    Tick,
    Timeline,
    WrongIndexError,
    limited,
    make_timeline,
)
from gridctl.media.convert import Converter
from gridctl.media.fit import Fit
from gridctl.media.images import IMAGE_SEQUENCE_FPS, Picture
from gridctl.media.index import Cursor, Leading, Skimmed, demux, scan_packets, with_end
from gridctl.media.truncation import ends_inside_sound, is_cut_off
from gridctl.storage import is_remote

# Codecs whose key frames depend on nothing before them, so decoding may start there. Others
# (those that build on all earlier frames, and rare ones) are decoded from the start.
_STARTS_AT_KEYS = frozenset({
    "av1", "dnxhd", "ffv1", "h263", "h264", "hevc", "jpeg2000", "mjpeg", "mpeg1video",
    "mpeg2video", "mpeg4", "png", "prores", "rawvideo", "theora", "vc1", "vp8", "vp9", "wmv3",
})  # fmt: skip
# Formats that hold their own data. FFmpeg also reads playlists (HLS, concat, DASH), which name
# other files, whatever suffix they have. The last four are sound: they get a better message.
_FORMATS = (
    "apng", "asf", "av1", "avi", "cavsvideo", "dirac", "dv", "flv", "gif", "gxf", "h263", "h264",
    "hevc", "ivf", "live_flv", "m4v", "matroska", "mjpeg", "mov", "mpeg", "mpegts", "mpegvideo",
    "mxf", "nut", "obu", "ogg", "png_pipe", "rm", "vc1", "vvc", "wtv", "yuv4mpegpipe",
    "aac", "flac", "mp3", "wav",
)  # fmt: skip
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own ignore transparency
_MAX_PIXELS = 178_956_970  # of a frame: Pillow's limit for images
# Transport and program streams, whose time stamps may break off. A gap that is longer is a
# break; ffmpeg takes the same limit.
_BREAKING_FORMATS = frozenset({"mpegts", "mpeg"})
_BREAK_SECONDS = 10.0
_ENDS_ABRUPTLY = "ends abruptly: the recording was stopped there, or the file is cut off"
_FASTEST_FPS = 1000.0  # raw DV, for one, claims 60,000
_LAST_FRAMES = 16  # as many as can be decoded out of order


class Video:
    """A video file. Reads its largest video stream; sound and cover art are ignored."""

    def __init__(self, path: Path, *, decode: bool, threads: int, tick: Tick) -> None:
        self.packets_decoded = 0
        """Number of packets that `cells` has decoded so far. Seeking keeps it small."""
        self._path = path
        self._threads = threads
        self._tick = tick
        self._hdr: str | None = None
        with self._open(skim=not decode) as (container, stream):
            rate = float(stream.average_rate or stream.guessed_rate or IMAGE_SEQUENCE_FPS)
            self._can_start_at_keys = stream.codec_context.name in _STARTS_AT_KEYS
            scan = scan_packets(path, container, stream, tick)
            base = float(stream.time_base or Fraction(1, 90_000))
            breaks = container.format.name in _BREAKING_FORMATS
            is_transport_stream = container.format.name == "mpegts"
            intra_only = stream.codec_context.codec.intra_only
        if is_remote(path) and not intra_only and (scan.index is None or scan.has_only_keys):
            # Its container does not say which frames are key frames, so the pictures must.
            with self._open() as (container, stream):
                scan = scan_packets(path, container, stream, tick)
        self._has_keys = scan.has_keys
        self._index = None if decode else scan.index
        stamps: list[int | None] = (
            self._decoded_stamps() if self._index is None else self._index.stamps.tolist()
        )
        timeline = make_timeline(
            [None if stamp is None else stamp * base for stamp in stamps],
            nominal_step=1 / rate,
            longest_seconds=_BREAK_SECONDS if breaks else LONGEST_SECONDS,
        )
        self._notes = timeline.notes
        if is_transport_stream and (_lacks_last_frames(timeline) or ends_inside_sound(path)):
            self._notes += (_ENDS_ABRUPTLY,)
        self.times_seconds: Seconds = timeline.times_seconds
        last, note = limited(scan.last_seconds or timeline.step_seconds, timeline.longest_seconds)
        self._notes += (note,) if note else ()
        self.duration_seconds = float(self.times_seconds[-1]) + last
        is_sane = rate <= _FASTEST_FPS and not timeline.notes
        self.fps = rate if is_sane else len(stamps) / self.duration_seconds

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        converter: Converter | None = None
        for frame, pixel_aspect in self._indexed(frames) if self._index else self._counted(frames):
            if converter is None:
                converter = Converter(fit, pixel_aspect)
            yield converter.cell(frame)
            self._hdr = converter.hdr

    def notes(self) -> Sequence[str]:
        if not self._hdr:
            return self._notes
        return (*self._notes, f"is HDR ({self._hdr}) and was tone-mapped to SDR")

    def _decoded_stamps(self) -> list[int | None]:
        """The timestamps of all frames that decoding gives, in the order it gives them."""
        stamps = [frame.pts for frame, _ in self._decode_all()]
        if not stamps:
            raise InputError(
                f"{self._path} has no frame that can be decoded; replace it or leave it out."
            )
        return stamps

    def _counted(self, frames: Ordinals) -> Iterator[tuple[av.VideoFrame, float]]:
        """The frames with these numbers, by decoding all frames before them."""
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
        """All frames, from the first key frame on.

        With one thread, because with several a decoder reports damage elsewhere, or not at all.
        """
        shown = 0
        started, is_leading = not self._has_keys, None
        with self._open() as (container, stream):
            decoder, aspect = self._decoder(stream, threads=1), _pixel_aspect(stream)
            for packet in with_end(demux(container, stream)):
                self._tick()
                if packet is not None and not started:
                    if not packet.is_keyframe:
                        continue  # nothing to decode it from
                    started, is_leading = True, Leading(packet.pts)
                if is_leading and is_leading(packet):
                    continue
                try:
                    decoded = decoder.decode(packet)
                except FFmpegError as error:
                    if not shown:
                        continue  # the first key frame may be damaged, or not really one
                    raise InputError(
                        f"{self._path} is damaged after {shown} frames ({error.strerror}); "
                        "download or export it again, or leave out the rest with --end."
                    ) from error
                for frame in decoded:
                    shown += 1
                    yield frame, aspect

    def _indexed(self, frames: Ordinals) -> Iterator[tuple[av.VideoFrame, float]]:
        """The frames with these numbers, each decoded from the last key frame before it."""
        assert self._index
        stamps, keys, _ = self._index
        wanted = stamps[frames]
        key_of = np.searchsorted(keys, wanted, side="right") - 1
        if not self._can_start_at_keys:
            key_of[:] = 0
        with self._open() as (container, stream):
            aspect = _pixel_aspect(stream)
            cursor = Cursor(
                self._index, wanted, container, stream, self._decoder(stream, self._threads)
            )
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
                except FFmpegError as error:  # decoding all of it finds out what is damaged
                    raise WrongIndexError from error
                finally:
                    self.packets_decoded = cursor.packets_decoded
                yield frame, aspect

    def _decoder(self, stream: av.VideoStream, threads: int) -> av.VideoCodecContext:
        name = _ALPHA_DECODERS.get(stream.codec_context.name)
        decoder = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1" and name in av.codecs_available:
            created = av.CodecContext.create(name, "r")
            assert isinstance(created, av.VideoCodecContext)
            decoder = created
        decoder.thread_type = "AUTO" if threads > 1 else "NONE"
        decoder.thread_count = threads
        # Damage is reported, never hidden. And a header must not claim any amount of memory.
        decoder.options = {"err_detect": "explode", "max_pixels": str(_MAX_PIXELS)}
        return decoder

    @contextmanager
    def _open(
        self, *, skim: bool = False
    ) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        """Open the video. What FFmpeg cannot read, here or in the block, is an InputError.

        With `skim` the packets of a video in storage may be empty.
        """
        try:
            # "file:" keeps FFmpeg from reading a name with a colon or a dash as a protocol.
            file = self._path.open("rb") if is_remote(self._path) else None
            options = {"protocol_whitelist": "none" if file else "file"}
            options["format_whitelist"] = ",".join(_FORMATS)
            skimmed = Skimmed.of(file) if file and skim else None
            if skimmed:
                options["fflags"] = "noparse+nofillin"  # parsers look at the pictures
            with av.open(
                skimmed or file or f"file:{self._path}", metadata_errors="replace", options=options
            ) as container:
                if skimmed:
                    skimmed.skim()
                yield container, _best_stream(container, self._path)
        except (FFmpegError, OSError, ValueError) as error:
            fact = getattr(error, "strerror", None) or error
            with suppress(OSError):
                fact = "it is cut off" if is_cut_off(self._path) else fact
            raise InputError(
                f"{self._path} cannot be read as a video ({fact}); replace it or leave it out."
            ) from error


def _best_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The stream with the largest picture, as ffmpeg chooses. Cover art does not count."""
    films = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None  # a codec that FFmpeg does not know
        and not stream.disposition & Disposition.attached_pic
    ]
    if not films:
        raise InputError(f"{path} has no video stream; leave it out.")
    # An animated AVIF has its first frame as a stream of the same size.
    return max(
        films, key=lambda film: (film.codec_context.width * film.codec_context.height, film.frames)
    )


def _lacks_last_frames(timeline: Timeline) -> bool:
    """Whether frames between the last ones are missing, and only there.

    Frames are stored out of order, so a file that was cut has the later of two frames and not
    yet the one between.
    """
    steps = np.diff(timeline.times_seconds) / timeline.step_seconds
    last = steps[-_LAST_FRAMES:]
    lacks = bool((last > 1.5).any() and (last < _LAST_FRAMES / 2).all())
    return lacks and not (steps[:-_LAST_FRAMES] > 1.5).any()


def _pixel_aspect(stream: av.VideoStream) -> float:
    """Width of a pixel divided by its height; 1 if the file does not say, or says nonsense."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 16 <= aspect <= 16 else 1.0
