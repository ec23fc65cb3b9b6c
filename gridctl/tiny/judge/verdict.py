"""From frames to a verdict: the readings, how sure they are, and the temporal error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gridctl.errors import UsageError
from gridctl.tiny.judge import find, templates
from gridctl.tiny.judge.find import Bools, Floats
from gridctl.tiny.judge.motion import fit_motions
from gridctl.tiny.judge.turn import read_turn
from gridctl.tiny.render import mark_color
from gridctl.tiny.scene import TURN
from gridctl.tiny.words import BACKGROUNDS, COLORS, SHAPES, SOLIDS, STYLES

Indices = npt.NDArray[np.intp]

AGREE = 0.75  # share of frames that must read the same by themselves as the clip
FAR_BACKGROUND = 40  # 8-bit levels from the nearest background of the world
UNEVEN = 25  # the same, of a border's pixels from their median
SMALL = 0.004  # share of a frame: smaller objects are ignored
# Limits of what the best explanation leaves unexplained, as a share of how far the object is from
# the background (squares). Clean renders leave 0.05, blurred and noisy ones up to 0.2.
STRANGE_COLOR = 0.15
STRANGE_SHAPE = 0.45
TIE = 0.002
# How much worse the next best colour or shape must be: a gray object could be of any colour,
# a diamond of several shapes. In the world's clips it is over 0.8 and 0.3.
CLEAR_COLOR = 0.4
CLEAR_SHAPE = 0.05
LOST = 0.04  # cell sides: a path farther (rms) from every motion has none


@dataclass(frozen=True)
class Reading:
    """A name of the toy world, or None where nothing can be read, and its confidence.

    `confidence` is 0..1: how much worse the next best name explains the frames, times the share
    of frames that read the same by themselves. None has 0.
    """

    value: str | None
    confidence: float


NOTHING = Reading(None, 0.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Readings of a clip or picture.

    `temporal_error` is the flicker against the fitted motion, in 8-bit levels: the root of the
    sum of two mean squares. (1) Over the object: each frame is sampled in the circle around the
    object on the smooth path of the best motion (a solid: where it stays, as in a steady turn).
    The renderer's picture of what was read, as soft as the clip, is subtracted, then the mean
    over time. So a wrong tone or a bent shape counts only where it changes. (2) Over the
    background: each pixel outside the object minus its mean over time. Without a readable object:
    all pixels minus their mean over time. Clean renders have 0 to 6, after a good VAE up to 9.
    One misplaced frame adds a few levels; a disordered clip has 15 to 80.
    """

    kind: Reading  # "shape" or "solid"
    shape: Reading
    color: Reading
    background: Reading
    style: Reading
    motion: Reading | None  # TURN for a solid in order; None of a single picture
    temporal_error: float | None  # None of a single picture
    # Of a solid only:
    view_angles: tuple[float, ...] | None = None  # degrees of its turn in each frame, 0 to 360
    turn_in_order: bool | None = None  # whether they are those of a steady full turn


@dataclass(frozen=True, kw_only=True)
class _Object:
    """The object found in the frames, and what is needed to follow it."""

    shape: str
    chosen: Indices  # (F,) the template that explains each frame
    circles: Floats  # (F, 3) centre and radius in px
    seen: Bools  # (F,)
    paints: Floats  # (3, 3) RGB of background, colour and mark


def judge_picture(frame: npt.NDArray[np.uint8]) -> Verdict:
    """Read one picture, (H, W, 3) uint8 of at least 32 px; raises UsageError for others."""
    return _judge(_checked(np.asarray(frame)[None]))


def judge_clip(frames: npt.NDArray[np.uint8]) -> Verdict:
    """Read a clip, (F, H, W, 3) uint8 of at least 2 frames of 32 px, in their order.

    Orbits and bounces need 6 frames to be recognised. Raises UsageError for other frames.
    """
    frames = _checked(np.asarray(frames))
    if len(frames) < 2:
        raise UsageError("A clip of 1 frame has no motion; judge it as a picture.")
    return _judge(frames)


def _checked(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    wrong = frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8
    if wrong or min(frames.shape[1:3]) < 32:
        raise UsageError(
            f"Frames are {frames.dtype} of shape {frames.shape}; the judge reads uint8, RGB, "
            "of at least 32x32 pixels."
        )
    return frames


def _judge(pixels: npt.NDArray[np.uint8]) -> Verdict:
    frames = find.shrink(pixels)
    borders, uneven, distances = find.read_background(frames)
    background = best_reading(distances, BACKGROUNDS, most=FAR_BACKGROUND)
    if np.median(uneven) > UNEVEN:
        background = NOTHING
    nothing = Verdict(
        kind=NOTHING,
        shape=NOTHING,
        color=NOTHING,
        background=background,
        style=NOTHING,
        motion=NOTHING if len(frames) > 1 else None,
        temporal_error=_rms(frames - frames.mean(0)) if len(frames) > 1 else None,
    )
    under = np.median(borders, axis=0)
    # Flicker of the whole frame must not hide the object.
    steady = frames - (borders - under)[:, None, None]
    color_costs, counts = find.read_color(steady, under)
    present = counts >= SMALL * frames[0, ..., 0].size
    if present.mean() < AGREE:
        return nothing
    color = best_reading(color_costs[present], COLORS, most=STRANGE_COLOR, least=CLEAR_COLOR)
    likely = list(COLORS)[int(color_costs[present].mean(0).argmin())]
    paints = np.array([under, COLORS[likely], mark_color(likely)], np.float32)

    boxes, found = find.find_boxes(find.object_distance(steady, under, paints[1]))
    seen = present & found
    if seen.mean() < AGREE:
        return replace(nothing, color=color)
    left = templates.unexplained(find.sample(steady, boxes), boxes, paints)  # (F, T)
    names = (*SHAPES, *SOLIDS)
    by_name = np.stack([left[:, templates.indices(name)].min(1) for name in names], -1)[seen]
    if by_name.mean(0).min() > STRANGE_SHAPE:
        return replace(nothing, color=color)
    shape = best_reading(by_name, names, most=STRANGE_SHAPE, least=CLEAR_SHAPE)
    likely = names[int(by_name.mean(0).argmin())]
    shapes = len(SHAPES)
    by_kind = np.stack([by_name[:, :shapes].min(1), by_name[:, shapes:].min(1)], -1)
    kind = best_reading(by_kind, ("shape", "solid"), most=STRANGE_SHAPE)
    of_shape = templates.indices(likely)
    if likely in SOLIDS:  # each frame has a view of its own; the style is always the same
        chosen = of_shape[left[:, of_shape].argmin(1)]
        style = Reading(STYLES[0], kind.confidence) if kind.value else NOTHING
    else:
        total = left[seen].mean(0)
        chosen = np.full(len(left), of_shape[total[of_shape].argmin()])
        by_style = [left[seen][:, templates.indices(likely, one)].min(1) for one in STYLES]
        style = best_reading(np.stack(by_style, -1), STYLES, most=STRANGE_SHAPE)
    circles = templates.refined_circles(steady, boxes, chosen, paints)
    thing = _Object(shape=likely, chosen=chosen, circles=circles, seen=seen, paints=paints)
    read = replace(nothing, kind=kind, shape=shape, color=color, style=style)
    if likely in SOLIDS:
        return _read_turn(frames, steady, thing, read)
    return _read_motion(frames, thing, read)


def best_reading(costs: Floats, names: Iterable[str], *, most: float, least: float = 0) -> Reading:
    """The name with the least mean cost (F, N).

    Nothing if that cost is over `most`, if the next best name is hardly worse (a margin below
    `least`), or if too few frames agree.
    """
    mean = costs.mean(0)
    best, second = np.argsort(mean)[:2]
    agree = float((costs.argmin(1) == best).mean())
    # Two costs of next to nothing are a tie, whatever their ratio is.
    margin = 1 - (float(mean[best]) + TIE) / (float(mean[second]) + TIE)
    if mean[best] > most or margin < least or agree < AGREE:
        return NOTHING
    return Reading(list(names)[best], round(margin * agree, 4))


def _read_motion(frames: Floats, thing: _Object, read: Verdict) -> Verdict:
    """The motion of a shape, and its temporal error."""
    if len(frames) == 1:
        return read
    fit = fit_motions(_path(frames, thing))[0]
    confidence = round(1 - fit.error / LOST, 4)
    motion = Reading(fit.motion, confidence) if confidence > 0 else NOTHING
    middle, side = _middle(frames)
    smooth = ((fit.path - [0.5, 0.5, 0]) * side + middle).astype(np.float32)
    drawn = np.empty((len(frames), find.LOOK**2, 3), np.float32)
    for bank, rows in templates.by_radius(smooth[:, 2]):
        drawn[rows] = bank.circled[thing.chosen[rows]] @ thing.paints
    return replace(read, motion=motion, temporal_error=_temporal_error(frames, smooth, drawn))


def _read_turn(frames: Floats, steady: Floats, thing: _Object, read: Verdict) -> Verdict:
    """The views of a solid, whether they are a turn's, and its temporal error.

    `steady` are the frames with even brightness. A solid stays in place, so all frames are
    sampled in one circle: in a single frame the mark may look like background, and its box may
    be wrong.
    """
    middle = np.median(thing.circles[thing.seen], axis=0)
    circles = np.broadcast_to(middle, thing.circles.shape).astype(np.float32)
    bank = templates.bank(float(templates.nearest_radius(middle[2:])[0]))
    views = bank.circled[templates.indices(thing.shape)]
    looks = find.sample(steady, circles)
    left = templates.unexplained_by(looks, views, thing.paints)
    # A drawn solid may tremble by a pixel: align each frame before its view is read.
    drawn = views[left.argmin(1)] @ thing.paints
    near = templates.moved(circles, templates.offsets(looks, drawn))
    left = templates.unexplained_by(find.sample(steady, near), views, thing.paints)
    turn = read_turn(left)
    if len(frames) == 1:
        return replace(read, view_angles=turn.angles)
    stays = fit_motions(_path(frames, thing))[0].motion == "standing still"
    in_order = turn.in_order and stays and bool(left.min(1).mean() <= STRANGE_SHAPE)
    motion, angles = NOTHING, turn.turn
    if in_order:
        motion = Reading(TURN, turn.agreement)
    elif turn.frozen and stays:
        motion = Reading("standing still", turn.agreement)
        angles = np.full(len(frames), turn.still)
    drawn = templates.between_views(views, angles) @ thing.paints
    return replace(
        read,
        motion=motion,
        view_angles=turn.angles,
        turn_in_order=in_order,
        temporal_error=_temporal_error(frames, circles, drawn),
    )


def _middle(frames: Floats) -> tuple[Floats, int]:
    """(the frame's middle as (x, y, 0), the shorter side), in px."""
    height, width = frames.shape[1:3]
    return np.array([width / 2, height / 2, 0], np.float32), min(height, width)


def _path(frames: Floats, thing: _Object) -> npt.NDArray[np.float64]:
    """(x, y, radius) in cell sides of each frame (F, 3); between its neighbours where unseen."""
    middle, side = _middle(frames)
    path = (thing.circles.astype(np.float64) - middle) / side + [0.5, 0.5, 0]
    seen = np.flatnonzero(thing.seen)
    filled = [np.interp(np.arange(len(path)), seen, one[seen]) for one in path.T]
    return np.stack(filled, -1)


def _temporal_error(frames: Floats, circles: Floats, drawn: Floats) -> float:
    """`Verdict.temporal_error`; `drawn` (F, N, 3) is the renderer's look in each circle."""
    left = find.sample(frames, circles) - drawn
    # A VAE softens; edges that turn or grow must not count as flicker for that.
    softer = find.soften(drawn.reshape(-1, find.LOOK, find.LOOK, 3)).reshape(drawn.shape) - drawn
    left -= np.clip((left * softer).sum() / max((softer**2).sum(), 1.0), 0, 1.5) * softer
    height, width = frames.shape[1:3]
    x, y, radius = (one[:, None, None] for one in circles.T)
    away = np.hypot(np.arange(width) + 0.5 - x, np.arange(height)[:, None] + 0.5 - y)
    bare = (away > 1.1 * radius + 2)[..., None]  # (F, H, W, 1), clear of the soft edge
    mean = (frames * bare).sum(0) / np.maximum(bare.sum(0), 1)
    background = ((frames - mean)[bare[..., 0]] ** 2).mean() if bare.any() else 0.0
    return round(float(np.hypot(_rms(left - left.mean(0)), np.sqrt(background))), 3)


def _rms(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))
