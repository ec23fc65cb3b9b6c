"""Clips: a video, an animation, an image or a folder of images, all read in one way.

A clip is opened, which finds out when its frames are shown without decoding them where that
can be; then any of its frames can be asked for. Memory holds a frame or two and a few bytes
a frame of the clip, however long it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gridctl.errors import InputError
from gridctl.media.fit import Fit
from gridctl.media.read import Picture

Ordinals = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.floating]
Tick = Callable[[], None]  # called with each packet or frame: a sign of life


def no_tick() -> None:
    """The tick of callers who do not ask."""


class WrongIndexError(Exception):
    """Decoding contradicts what the clip's packets promised; open it with `decode=True`."""


class Clip(Protocol):
    """What every clip can do."""

    times_seconds: Seconds
    """When each frame is shown, from the first one's time on, rising."""
    fps: float
    """Its nominal rate."""

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        """The frames with these numbers, rising and each once, as cells (H, W, 3).

        Raises InputError for a clip that turns out to be damaged, WrongIndexError for a video
        whose packets promised other frames.
        """
        ...

    def notes(self) -> Sequence[str]:
        """What a user should know of the frames that were read."""
        ...


def open_clip(
    source: Path, *, decode: bool = False, threads: int = 1, tick: Tick = no_tick
) -> Clip:
    """Open a video, an animated GIF, WebP, APNG or AVIF, an image, or a folder of images.

    `decode` finds a video's frames by decoding all of it, which is slow and always right.
    Raises InputError for a source that is missing, broken or no clip.
    """
    from gridctl.media.animation import Animation
    from gridctl.media.read import IMAGE_SUFFIXES, image_files, is_animated
    from gridctl.media.sequence import ImageSequence
    from gridctl.media.video import Video

    try:
        if source.is_dir():
            files = image_files(source)
            if not files:
                raise InputError(f"{source} holds no video and no images; name a folder of either.")
            return ImageSequence(files, tick)
        if not source.exists() and not source.is_symlink():
            raise InputError(f"{source} does not exist; check the name.")
        source.stat()  # says what is wrong with a link that leads nowhere, or in a circle
        if not source.is_file():
            raise InputError(f"{source} is a device or a pipe; name a file or a folder.")
        if source.stat().st_size == 0:
            raise InputError(f"{source} is empty (0 bytes); download or export it again.")
    except OSError as error:  # a name that is too long, or links that lead in a circle
        raise InputError(
            f"{source} cannot be read ({error.strerror}); check its name and rights."
        ) from error
    if is_animated(source):
        return Animation(source, tick)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSequence([source], tick)
    return Video(source, decode=decode, threads=threads, tick=tick)
