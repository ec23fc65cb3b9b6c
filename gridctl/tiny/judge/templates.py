"""Everything the toy world can draw, rendered once at a few sizes and kept as looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from gridctl.tiny.judge import find
from gridctl.tiny.judge.find import LOOK, LOOK_AXIS, Floats
from gridctl.tiny.render import render_layers
from gridctl.tiny.scene import TURN, Scene
from gridctl.tiny.words import SHAPES, SOLIDS, STYLES

Indices = npt.NDArray[np.intp]

RADII = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0)  # px, of the circle around the object
VIEWS = 48  # of each solid's turn
PHASES = 6  # of a sketch's wobble

_SHAPE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="standing still"
)
_SOLID = replace(_SHAPE, kind="solid", shape="cube", motion=TURN)


def _scenes() -> list[tuple[Scene, float]]:
    """(scene, time) of each template."""
    shapes = [
        replace(_SHAPE, shape=shape, style=style, phase=phase / PHASES)
        for shape in SHAPES
        for style in STYLES
        for phase in range(PHASES if style == "sketch" else 1)
    ]
    return [(scene, 0.0) for scene in shapes] + [
        (replace(_SOLID, shape=solid), view / VIEWS) for solid in SOLIDS for view in range(VIEWS)
    ]


SCENES = _scenes()


@cache
def indices(shape: str, style: str | None = None) -> Indices:
    """Which templates are of that shape, or solid, and style; of a solid in order of its views."""
    wanted = [
        index
        for index, (scene, _) in enumerate(SCENES)
        if scene.shape == shape and style in (None, scene.style)
    ]
    return np.array(wanted, np.intp)


@dataclass(frozen=True, kw_only=True)
class Bank:
    """All templates at one radius, as layers: weights of background, colour and mark."""

    boxed: Floats  # (T, LOOK * LOOK, 3), seen through the box that `find_boxes` finds
    circled: Floats  # the same, seen through the circle around the object
    circles: Floats  # (T, 3): the circle's (x, y) from the box's middle and its radius, / half


@cache
def bank(radius: float) -> Bank:
    """The templates with a circle of `radius` px."""
    side = int(np.ceil(radius * 2.5)) + 6
    scale = radius / side
    layers = np.stack([render_layers(replace(s, size=scale), t, (side, side)) for s, t in SCENES])
    boxes, _ = find.find_boxes(find.layer_distance(layers))
    circle = np.broadcast_to(np.array([side / 2, side / 2, radius], np.float32), boxes.shape)
    return Bank(
        boxed=find.sample(layers, boxes),
        circled=find.sample(layers, circle),
        circles=(circle - boxes * [1, 1, 0]).astype(np.float32) / boxes[:, 2:],
    )


def nearest_radius(radii: Floats) -> Floats:
    """For each of `radii` (px) the one of RADII whose ratio to it is nearest to 1."""
    known = np.array(RADII, np.float32)
    ratio = np.abs(np.log(np.maximum(radii, 1e-3))[:, None] - np.log(known))
    nearest: Floats = known[ratio.argmin(1)]
    return nearest


def unexplained(looks: Floats, boxes: Floats, paints: Floats) -> Floats:
    """Costs (F, T): what each template leaves unexplained of looks (F, N, 3) into boxes (F, 3)."""
    left = np.empty((len(looks), len(SCENES)), np.float32)
    for templates, rows in by_radius(boxes[:, 2]):
        left[rows] = unexplained_by(looks[rows], templates.boxed, paints)
    return left


def unexplained_by(looks: Floats, layers: Floats, paints: Floats) -> Floats:
    """Squared distance of looks (F, N, 3) from templates (T, N, 3) in these paints: (F, T).

    As a share of the look's squared distance from plain background: 0 is a perfect match.
    """
    drawn = (layers.reshape(-1, 3) @ paints).reshape(len(layers), -1)
    flat = looks.reshape(len(looks), -1)
    squares = np.einsum("fn,fn->f", flat, flat)[:, None] + np.einsum("tn,tn->t", drawn, drawn)
    offset = looks - paints[0]
    whole = np.maximum(np.einsum("fnc,fnc->f", offset, offset), 1)
    left: Floats = np.maximum(squares - 2 * flat @ drawn.T, 0) / whole[:, None]
    return left


def between_views(views: Floats, angles: Floats) -> Floats:
    """Looks at angles (F,) in degrees, between those of `views` (VIEWS, N, 3): (F, N, 3)."""
    position = angles / 360 * VIEWS
    before = np.floor(position).astype(np.intp)
    part = (position - before).astype(np.float32)[:, None, None]
    return views[before % VIEWS] * (1 - part) + views[(before + 1) % VIEWS] * part


def refined_circles(frames: Floats, boxes: Floats, chosen: Indices, paints: Floats) -> Floats:
    """Centre and radius (F, 3), in px, of the object of template `chosen` (F,) near each box."""
    circles = np.empty_like(boxes)
    for _ in range(2):
        looks = find.sample(frames, boxes)
        for templates, rows in by_radius(boxes[:, 2]):
            drawn = templates.boxed[chosen[rows]] @ paints
            boxes = boxes.copy()
            boxes[rows] = box = moved(boxes[rows], offsets(looks[rows], drawn))
            circles[rows] = box * [1, 1, 0] + box[:, 2:] * templates.circles[chosen[rows]]
    return circles


def by_radius(radii: Floats) -> Iterator[tuple[Bank, Indices]]:
    """Each bank that is needed for objects of these radii (F,), and for which of them."""
    nearest = nearest_radius(radii)
    for radius in np.unique(nearest):
        yield bank(float(radius)), np.flatnonzero(nearest == radius)


def offsets(looks: Floats, drawn: Floats) -> Floats:
    """Offset of the object in each look from its template (F, N, 3): (F, 3) of (x, y, growth).

    In units of the pose's half side. One step of Gauss and Newton, for small offsets.
    """
    pictures = drawn.reshape(-1, LOOK, LOOK, 3)
    step = float(LOOK_AXIS[1] - LOOK_AXIS[0])
    down, right = np.gradient(pictures, step, axis=(1, 2))
    growth = right * LOOK_AXIS[None, None, :, None] + down * LOOK_AXIS[None, :, None, None]
    slopes = -np.stack([right, down, growth]).reshape(3, len(drawn), -1)
    left = (looks - drawn).reshape(len(drawn), -1)
    normal = np.einsum("ifn,jfn->fij", slopes, slopes) + np.eye(3, dtype=np.float32)
    toward = np.einsum("ifn,fn->fi", slopes, left)
    solved = np.linalg.solve(normal, toward[..., None])[..., 0]
    return np.clip(solved, -0.2, 0.2).astype(np.float32)


def moved(poses: Floats, by: Floats) -> Floats:
    """Poses (F, 3) corrected by `offsets` (F, 3)."""
    half = poses[:, 2:]
    return np.concatenate([poses[:, :2] + by[:, :2] * half, half * (1 + by[:, 2:])], -1)
