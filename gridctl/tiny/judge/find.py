"""Finding the object: background, colour, box, and the look inside the box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gridctl.tiny.words import BACKGROUNDS, COLORS

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

WORKING_SIDE = 64  # px: larger cells are shrunk by whole factors to about that
LOOK = 24  # samples along a side of an object's look
REACH = 1.15  # from a look's middle to its edge, in units of the box's half side

EDGE = 0.15  # of the way from background to colour: there the box ends
_LEAST_EDGE = 12  # of 255, so that noise has no edges
_OBJECT = 40  # of 255: farther than that from the background is the object
_PART = 0.2  # of the largest part of an object: a smaller one apart from it is a speck
_SHADES = np.array([1.0, 0.8, 0.6, 0.45], np.float32)  # of a colour: solids and stripes
_GRAYS = np.array([[245] * 3, [110] * 3, [20] * 3], np.float32)  # a solid's mark, of any color
_SAMPLED = 5000  # pixels of a clip that its colour is read from


def shrink(frames: npt.NDArray[np.uint8]) -> Floats:
    """(F, H, W, 3) as floats; of larger cells the mean of blocks of pixels."""
    count, height, width, _ = frames.shape
    factor = max(round(min(height, width) / WORKING_SIDE), 1)
    if factor == 1:
        return frames.astype(np.float32)
    height, width = height // factor, width // factor
    cut = frames[:, : height * factor, : width * factor].astype(np.float32)
    small: Floats = cut.reshape(count, height, factor, width, factor, 3).mean((2, 4))
    return small


def read_background(frames: Floats) -> tuple[Floats, Floats, Floats]:
    """(RGB of each frame's border (F, 3), how uneven that border is (F,), distances (F, B)).

    The border is the median of a ring of 2 px, so an object may touch it. Distances are
    those to each of `BACKGROUNDS`, and all are in 8-bit levels.
    """
    ring = np.ones(frames.shape[1:3], bool)
    ring[2:-2, 2:-2] = False
    border = frames[:, ring]  # (F, N, 3)
    rgb: Floats = np.median(border, axis=1)
    spread = np.median(np.linalg.norm(border - rgb[:, None], axis=-1), axis=1)
    known = np.array(list(BACKGROUNDS.values()), np.float32)
    return rgb, spread, np.linalg.norm(rgb[:, None] - known, axis=-1)


def read_color(frames: Floats, background: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """(how badly each of `COLORS` explains each frame's object (F, C), its pixels (F,)).

    A pixel of an object lies between the background and a shade of its colour. How far it is
    from all such, squared and summed over the object, relative to how far it is from the
    background: 0 is a perfect explanation, 1 is none. Frames without an object have 1.
    """
    offset = (frames - background).reshape(len(frames), -1, 3)
    far = np.einsum("fpc,fpc->fp", offset, offset)
    frame, pixel = np.nonzero(far > _OBJECT**2)
    counts = np.bincount(frame, minlength=len(frames))
    stride = len(frame) // _SAMPLED + 1
    frame, pixel = frame[::stride], pixel[::stride]
    offset, far = offset[frame, pixel], far[frame, pixel]
    colors = np.array(list(COLORS.values()), np.float32)
    # (C * S + G, 3): where a fully covered pixel of that colour and shade would be.
    ends = np.concatenate([(colors[:, None] * _SHADES[:, None]).reshape(-1, 3), _GRAYS])
    ends = ends - background
    square = np.maximum(np.einsum("sc,sc->s", ends, ends), 1)
    along = offset @ ends.T
    part = np.clip(along / square, 0, 1)
    left = far[:, None] - 2 * part * along + part**2 * square
    left = np.maximum(left, 0)
    gray = left[:, -len(_GRAYS) :].min(-1, keepdims=True)
    left = left[:, : -len(_GRAYS)].reshape(len(far), len(colors), len(_SHADES)).min(-1)
    left = np.minimum(left, gray)
    summed = np.stack([np.bincount(frame, one, len(frames)) for one in left.T], -1)
    total = np.bincount(frame, far, len(frames))[:, None]
    costs = np.where(total > 0, summed / np.maximum(total, 1), 1).astype(np.float32)
    return costs, counts


def object_distance(frames: Floats, background: Floats, color: Floats) -> Floats:
    """Distance of each pixel from the background, such that `find_boxes` may cut at EDGE."""
    contrast = float(np.linalg.norm(color - background))
    offset = soften(frames - background)
    scale = EDGE / max(EDGE * contrast, _LEAST_EDGE)
    distance: Floats = np.sqrt(np.einsum("fhwc,fhwc->fhw", offset, offset)) * np.float32(scale)
    return distance


def layer_distance(layers: Floats) -> Floats:
    """`object_distance` of rendered layers (F, H, W, 3): the share that is not background."""
    distance: Floats = soften(1 - layers[..., :1])[..., 0]
    return distance


def soften(pictures: Floats) -> Floats:
    """Mean over 3x3 pixels; the outermost pixels have fewer neighbours."""
    soft: Floats = pictures.copy()
    soft[:, 1:-1] = (pictures[:, :-2] + pictures[:, 1:-1] + pictures[:, 2:]) / 3
    wide = soft.copy()
    soft[:, :, 1:-1] = (wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]) / 3
    return soft


def find_boxes(distance: Floats) -> tuple[Floats, Bools]:
    """(box (F, 3), whether there is one (F,)) of the object in each picture (F, H, W).

    A box is (x, y) of its middle and half of its longer side, in pixels and to fractions of
    one. Specks apart from the object, with an empty column or row between, are left out, but
    not large parts of it: a mark in the background's colour may cut a solid in two.
    """
    mask = distance > EDGE
    for _ in range(2):
        mask = mask & _large_runs(mask.sum(1))[:, None, :]
        mask = mask & _large_runs(mask.sum(2))[:, :, None]
    found = mask.sum((1, 2)) >= 4
    inside = np.where(mask, distance, 0)
    left, right = _ends(inside.max(1), distance.max(1))
    top, bottom = _ends(inside.max(2), distance.max(2))
    half = np.maximum(np.maximum(right - left, bottom - top) / 2, 1)
    return np.stack([(left + right) / 2, (top + bottom) / 2, half], -1).astype(np.float32), found


def _large_runs(counts: npt.NDArray[np.intp]) -> Bools:
    """Mask (F, N) of the large runs of non-zero counts in each row, and of all between them."""
    number, length = counts.shape
    run = np.cumsum(counts == 0, axis=1)  # the same within a run
    index = run + np.arange(number)[:, None] * (length + 1)
    sums = np.bincount(index.ravel(), counts.ravel(), number * (length + 1))
    sums = sums.reshape(number, length + 1)
    large = sums >= np.maximum(_PART * sums.max(1, keepdims=True), 1)
    first, last = large.argmax(1), length - large[:, ::-1].argmax(1)
    within: Bools = (run >= first[:, None]) & (run <= last[:, None])
    return within


def _ends(inside: Floats, profile: Floats) -> tuple[Floats, Floats]:
    """First and last crossing of EDGE of each profile (F, N), in pixels from the frame's edge."""
    over = inside > EDGE
    length = over.shape[1]
    rows = np.arange(len(over))
    first, last = over.argmax(1), length - 1 - over[:, ::-1].argmax(1)

    def part(at: npt.NDArray[np.intp], beyond: npt.NDArray[np.intp]) -> Floats:
        """Distance of the crossing from the pixel's centre, 0..1."""
        value = profile[rows, at]
        outer = np.where((beyond >= 0) & (beyond < length), profile[rows, beyond % length], 0)
        fraction: Floats = np.clip((value - EDGE) / np.maximum(value - outer, 1e-6), 0, 1)
        return fraction

    return first + 0.5 - part(first, first - 1), last + 0.5 + part(last, last + 1)


def sample(frames: Floats, poses: Floats) -> Floats:
    """Sample each frame around its pose (x, y, half side in px): (F, LOOK * LOOK, 3).

    Bilinear; beyond a frame's edge its outermost pixels are repeated.
    """
    count, height, width, _ = frames.shape
    x, y, half = poses[:, 0, None], poses[:, 1, None], poses[:, 2, None]
    rows, row_part = _taps((y + half * LOOK_AXIS - 0.5).astype(np.float32), height)
    columns, column_part = _taps((x + half * LOOK_AXIS - 0.5).astype(np.float32), width)
    index = np.arange(count)[:, None, None]
    row_part, column_part = row_part[:, :, None, None], column_part[:, None, :, None]

    def tap(down: int, right: int) -> Floats:
        found: Floats = frames[
            index,
            np.minimum(rows + down, height - 1)[:, :, None],
            np.minimum(columns + right, width - 1)[:, None, :],
        ]
        return found

    upper, lower = tap(0, 0), tap(1, 0)
    upper = upper + column_part * (tap(0, 1) - upper)
    lower = lower + column_part * (tap(1, 1) - lower)
    looks: Floats = (upper + row_part * (lower - upper)).reshape(count, -1, 3)
    return looks


LOOK_AXIS: Floats = ((np.arange(LOOK, dtype=np.float32) + 0.5) / LOOK * 2 - 1) * np.float32(REACH)


def _taps(position: Floats, length: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """(the pixel before, how far on to the next one) of each position, kept in the frame."""
    position = np.clip(position, 0, length - 1)
    before = position.astype(np.intp)
    return before, (position - before).astype(np.float32)
