"""Animated GIF, WebP, APNG and AVIF as clips, transparency and disposal included (Pillow)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gridctl.errors import InputError
from gridctl.media.clip import Ordinals, Seconds, Tick
from gridctl.media.fit import Fit
from gridctl.media.images import Picture, open_image

_UNTOLD_SECONDS = 0.1  # what browsers make of a frame without a duration


class Animation:
    """An animated image; its frames build on each other, so they are read from the first on."""

    def __init__(self, path: Path, tick: Tick) -> None:
        _refuse_cut_off(path)
        self._path = path
        self._tick = tick
        durations = []
        with open_image(path) as image:
            for number in range(getattr(image, "n_frames", 1)):
                tick()
                image.seek(number)
                image.load()  # WebP knows its durations only now
                durations.append(image.info.get("duration", 0) / 1000 or _UNTOLD_SECONDS)
        self.times_seconds: Seconds = np.cumsum([0.0, *durations[:-1]])
        self.fps = len(durations) / sum(durations)

    def cells(self, frames: Ordinals, fit: Fit) -> Iterator[Picture]:
        with open_image(self._path) as image:
            for number in frames:
                self._tick()
                image.seek(int(number))
                yield fit.image(image.copy())

    def notes(self) -> Sequence[str]:
        return ()


def _refuse_cut_off(path: Path) -> None:
    """Raise InputError for a file without its end: Pillow would take it as a shorter one."""
    with path.open("rb") as file:
        head = file.read(12)
        size = file.seek(0, 2)
        file.seek(max(0, size - 64))
        end = file.read()
    if head[:3] == b"GIF":
        whole = b";" in end
    elif head[:4] == b"RIFF":
        whole = int.from_bytes(head[4:8], "little") + 8 <= size
    elif head[:4] == b"\x89PNG":
        whole = b"IEND" in end
    else:
        whole = True  # AVIF says where its frames lie, so Pillow misses them
    if not whole:
        raise InputError(f"{path} is cut off: its end is missing; download or export it again.")
