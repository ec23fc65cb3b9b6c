"""Open a clip: look at a path and pick the class that reads it; animations and image folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from gridctl.errors import InputError
from gridctl.media.clip import Clip, Ordinals, Seconds, Tick, WrongIndexError, limited, no_tick
from gridctl.media.fit import Fit
from gridctl.media.images import (
    IMAGE_SEQUENCE_FPS,
    Picture,
    as_srgb,
    image_files,
    is_animated,
    is_hdr,
    open_image,
    pages,
    read_image,
)
from gridctl.media.kinds import kind_of
from gridctl.media.truncation import is_cut_off

# Chrome, Safari and Firefox show a frame of a GIF, WebP or APNG with no delay, or with one of
# up to 10 ms, for a tenth of a second.
SHORTEST_SECONDS = 0.011
_NO_DELAY_SECONDS = 0.1


class Animation:
    """An animated image. Its frames build on each other, so they are read from the first on."""

    def __init__(self, path: Path, tick: Tick) -> None:
        if is_cut_off(path):  # Pillow would read it as a shorter animation
            raise InputError(f"{path} is cut off: its end is missing; download or export it again.")
        self._path = path
        self._tick = tick
        durations, notes = [], set()
        with open_image(path) as image:
            self._pages = pages(image)
            for number in self._pages:
                tick()
                image.seek(number)
                shown, note = limited(_duration(image))
                durations.append(shown)
                notes.update([note] if note else [])
        self._notes = tuple(sorted(notes))
        ends = np.cumsum(durations)
        self.times_seconds: Seconds = np.concatenate([[0.0], ends[:-1]])
        self.duration_seconds = float(ends[-1])
        self.fps = len(durations) / self.duration_seconds

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        with open_image(self._path) as image:
            for number in frames:
                self._tick()
                image.seek(self._pages[int(number)])
                yield fit.image(as_srgb(image.copy(), fit.background))

    def notes(self) -> Sequence[str]:
        return self._notes


def _duration(image: Image.Image) -> float:
    """Seconds that the current frame is shown."""
    if image.format == "TIFF":
        return 1 / IMAGE_SEQUENCE_FPS
    image.load()  # WebP knows the duration only now
    seconds = float(image.info.get("duration", 0)) / 1000
    shortest = 1e-3 if image.format == "AVIF" else SHORTEST_SECONDS
    return seconds if seconds >= shortest else _NO_DELAY_SECONDS


class ImageSequence:
    """One image file per frame, of any size and kind, in the order given."""

    def __init__(self, files: Sequence[Path], tick: Tick) -> None:
        self.times_seconds: Seconds = np.arange(len(files)) / IMAGE_SEQUENCE_FPS
        self.duration_seconds = len(files) / IMAGE_SEQUENCE_FPS
        self.fps = IMAGE_SEQUENCE_FPS
        self._files = files
        self._tick = tick
        self._notes: set[str] = set()

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        for number in frames:
            self._tick()
            path = self._files[number]
            if is_hdr(path):
                yield from self._tone_mapped(path, fit)
            else:
                yield fit.image(read_image(path, fit.background))

    def notes(self) -> Sequence[str]:
        return tuple(sorted(self._notes))

    def _tone_mapped(self, path: Path, fit: Fit) -> Iterator[Picture]:
        from gridctl.media.video import Video  # FFmpeg's libraries take a moment to load

        image = Video(path, decode=False, threads=1, tick=self._tick)
        yield from image.cells(np.zeros(1, np.int64), fit)
        self._notes.update(image.notes())


Result = TypeVar("Result")


def open_clip(
    source: Path, *, decode: bool = False, threads: int = 1, tick: Tick = no_tick
) -> Clip:
    """Open a video, an animated GIF, WebP, APNG or AVIF, an image, or a folder of images.

    `decode` finds a video's frames by decoding the whole file: slow, but always right.
    Raises InputError for a source that is missing or broken, or that is not a clip.
    """
    try:
        if source.is_dir():
            files = image_files(source)
            if not files:
                raise InputError(f"{source} holds no video and no images; name a folder of either.")
            return ImageSequence(files, tick)
        if not source.exists() and not source.is_symlink():
            raise InputError(f"{source} does not exist; check the name.")
        source.stat()  # its error explains a broken or circular link
        if not source.is_file():
            raise InputError(f"{source} is a device or a pipe; name a file or a folder.")
        if source.stat().st_size == 0:
            raise InputError(f"{source} is empty (0 bytes); download or export it again.")
    except OSError as error:  # the name is too long, or links form a circle
        raise InputError(
            f"{source} cannot be read ({error.strerror}); check its name and permissions."
        ) from error
    if is_animated(source) and not is_hdr(source):
        return Animation(source, tick)
    if kind_of(source) == "image" and not is_animated(source):
        return ImageSequence([source], tick)
    from gridctl.media.video import Video  # FFmpeg's libraries take a moment to load

    return Video(source, decode=decode, threads=threads, tick=tick)


def with_clip(source: Path, read: Callable[[Clip], Result]) -> Result:
    """`read(clip)` of a clip, once more by decoding all of it if its packets are wrong.

    Raises InputError as `open_clip` does, and for a damaged clip.
    """
    for decode in (False, True):
        try:
            return read(open_clip(source, decode=decode))
        except WrongIndexError:
            continue
    raise InputError(f"{source} changed while it was read; run the command again.")
