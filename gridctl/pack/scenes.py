"""Scenes: where a clip cuts from one shot to the next."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gridctl.media.clip import Clip, Ordinals
from gridctl.media.fit import Fit

_SIDE = 32  # pixels of the thumbnails that are compared
_LEAST_CHANGE = 12.0  # of 255, mean over a thumbnail: below, nothing is a cut
_TIMES_ITS_NEIGHBOURS = 3.0  # a cut is a change much larger than those around it
_REACH = 3  # frames to each side that count as around


def find_cuts(clip: Clip, frames: Ordinals) -> list[int]:
    """Those of `frames` (numbers of `clip`) that begin a new scene; decodes all of them."""
    fit = Fit(cell=(_SIDE, _SIDE), mode="stretch")
    changes = np.zeros(len(frames), np.float32)
    before: npt.NDArray[np.int16] | None = None
    for number, picture in enumerate(clip.cells(frames, fit)):
        now = picture.astype(np.int16)
        if before is not None:
            changes[number] = np.abs(now - before).mean()
        before = now
    return [int(frames[number]) for number in cut_positions(changes)]


def cut_positions(changes: npt.NDArray[np.float32]) -> list[int]:
    """Where `changes` from frame to frame stand out from those around them.

    A pan or a shaking camera changes much in every frame, a cut in one only; a flash
    changes two in a row and is no cut. Shots can be of a few frames: a cut that is known, a
    larger one, does not count as around another, unless right beside it.
    """
    cuts: set[int] = set()
    candidates = np.flatnonzero(changes >= _LEAST_CHANGE)
    for at in map(int, candidates[np.argsort(-changes[candidates], kind="stable")]):
        around = [
            changes[near]
            for near in range(max(0, at - _REACH), min(len(changes), at + _REACH + 1))
            if near != at and (near not in cuts or abs(near - at) == 1)
        ]
        if changes[at] >= _TIMES_ITS_NEIGHBOURS * max(around, default=0.0):
            cuts.add(at)
    return sorted(cuts)
