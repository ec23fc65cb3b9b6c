"""Opening a clip: looks at a path and picks the class that reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gridctl.errors import InputError
from gridctl.media.animation import Animation
from gridctl.media.clip import Clip, Tick, WrongIndexError, no_tick
from gridctl.media.images import image_files, is_animated, is_hdr
from gridctl.media.kinds import kind_of
from gridctl.media.sequence import ImageSequence

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
