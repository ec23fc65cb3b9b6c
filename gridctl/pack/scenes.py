"""Scenes: where a clip cuts from one shot to the next.

Why not a library: PySceneDetect decodes the clip once more, through OpenCV. Here the frames
come from the decoder that packs them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gridctl.media.clip import Clip, Ordinals
from gridctl.media.fit import Fit

_SIDE = 32  # side in pixels of the thumbnails that are compared
_LEAST_CHANGE = 12.0  # mean change of a thumbnail, of 255; a smaller one is no cut
_TIMES_ITS_NEIGHBOURS = 3.0  # a cut changes more than the frames around it, by this factor
_REACH = 3  # how many frames on each side are around it


def find_cuts(clip: Clip, frames: Ordinals) -> list[int]:
    """Those of `frames` (frame numbers of `clip`) that begin a scene. Decodes all of them."""
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

    A pan or a shaking camera changes every frame a lot, a cut only one. A flash changes two
    frames in a row and is no cut. A shot may be only a few frames long: then the larger cut,
    which is found first, does not count as around the other, unless they are adjacent.
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
