"""Scenes of the toy world: what can be drawn, and how a random one is chosen.

A scene is a coloured shape that moves on a plain background, or a shaded solid that makes
a full turn. Lengths are in units of the cell side (of the shorter one, where the cell is
not square): x runs right and y runs down from 0 to 1 over that centred square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from gridctl.errors import UsageError
from gridctl.tiny.words import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SOLIDS, STYLES

Kind = Literal["shape", "solid"]
TURN = "turning"  # the motion of every solid, and of nothing else

MARGIN = 0.02  # at least so much background stays between a shape and the frame's edge
BOUNCE_HEIGHT = 0.42
LEAST_TRAVEL = 0.4
SOLID_SHARE = 0.2  # share of solids among scenes of any kind

# Smallest and largest radius of the circle around a shape at the start of a motion: as large as
# the motion allows, because small shapes are hard to draw in a cell of 4x4 tokens.
_RADIUS = {
    **dict.fromkeys(MOTIONS[:4], (0.2, 0.27)),
    **dict.fromkeys(MOTIONS[4:6], (0.2, 0.24)),
    "growing": (0.2, 0.22),
    "shrinking": (0.4, 0.46),
    "bouncing": (0.2, 0.25),
    "standing still": (0.2, 0.36),
    TURN: (0.3, 0.38),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One scene; a pure value from which frames and captions follow.

    Raises UsageError for a name that the toy world does not know.
    """

    kind: Kind
    shape: str  # one of SHAPES, or of SOLIDS for a solid
    color: str
    background: str
    motion: str  # one of MOTIONS, or TURN for a solid
    style: str = "flat"  # solids are always flat
    x: float = 0.5  # centre at the start; a bounce starts at its lowest point
    y: float = 0.5
    size: float = 0.2  # radius of the circle around the object, at the start
    speed: float = 0.5  # cell sides, turns, bounces, or times the radius, over the clip
    phase: float = 0.0  # 0..1: the wobble of a sketch

    def __post_init__(self) -> None:
        solid = self.kind == "solid"
        for field, known in (
            ("kind", get_args(Kind)),
            ("shape", SOLIDS if solid else SHAPES),
            ("color", COLORS),
            ("background", BACKGROUNDS),
            ("motion", (TURN,) if solid else MOTIONS),
            ("style", STYLES[:1] if solid else STYLES),
        ):
            value = getattr(self, field)
            if value not in known:
                raise UsageError(
                    f"{field} {value!r} is not in the toy world; choose {', '.join(known)}."
                )


def is_held_out(scene: Scene) -> bool:
    """Whether training never sees the scene's combination of attributes: 1 in 10.

    The rule, with each attribute counted from 0 in the order of its list above: a shape is
    held out if colour + 3 * shape + 7 * motion is a multiple of 10, a solid if
    colour + 3 * solid + 2 * background is. So each attribute, and each pair of colour and
    shape, is seen in training; only the triples are new.
    """
    color = list(COLORS).index(scene.color)
    if scene.kind == "solid":
        background = list(BACKGROUNDS).index(scene.background)
        return (color + 3 * SOLIDS.index(scene.shape) + 2 * background) % 10 == 0
    return (color + 3 * SHAPES.index(scene.shape) + 7 * MOTIONS.index(scene.motion)) % 10 == 0


def sample_scene(
    rng: np.random.Generator,
    *,
    kind: Kind | None = None,
    held_out: bool | None = False,
    **fixed: str,
) -> Scene:
    """A random scene; `fixed` sets attributes by name, such as color="red".

    `held_out` False gives what training may see, True only what it never sees, None both.
    Raises UsageError if `fixed` leaves no such scene.
    """
    for _ in range(1000):
        scene = _sample(rng, kind, fixed)
        if held_out is None or is_held_out(scene) is held_out:
            return scene
    raise UsageError(
        f"{fixed} has no scene that is {'' if held_out else 'not '}held out; fix fewer "
        "attributes, or pass held_out=None."
    )


def _sample(rng: np.random.Generator, kind: Kind | None, fixed: Mapping[str, str]) -> Scene:
    if kind is None:
        solid = rng.random() < SOLID_SHARE
        if "shape" in fixed:
            solid = fixed["shape"] in SOLIDS
        kind = "solid" if solid else "shape"
    choices: dict[str, Sequence[str]] = {
        "shape": SOLIDS if kind == "solid" else SHAPES,
        "color": tuple(COLORS),
        "background": tuple(BACKGROUNDS),
        "motion": (TURN,) if kind == "solid" else MOTIONS,
        "style": STYLES[:1] if kind == "solid" else STYLES,
    }
    drawn = {name: values[int(rng.integers(len(values)))] for name, values in choices.items()}
    names = {**drawn, **fixed}
    size = rng.uniform(*_RADIUS[names["motion"]])
    x, y, speed = _sample_path(rng, names["motion"], size)
    return Scene(kind=kind, **names, x=x, y=y, size=size, speed=speed, phase=rng.random())


def _sample_path(rng: np.random.Generator, motion: str, size: float) -> tuple[float, float, float]:
    """(x, y, speed) with which an object of that radius stays wholly inside the frame."""
    low, high = MARGIN + size, 1 - MARGIN - size
    x, y = rng.uniform(low, high), rng.uniform(low, high)
    if motion in MOTIONS[:4]:
        travel = rng.uniform(LEAST_TRAVEL, high - low)
        start = {"moving right": low, "moving down": low}.get(motion, low + travel)
        start += rng.uniform(0, high - low - travel)
        return (start, y, travel) if motion in MOTIONS[:2] else (x, start, travel)
    # Orbits and bounces end where they begin, as a solid's turn does, and begin where one expects
    # them. A random phase is a choice that all frames must share and no word decides; a small model
    # does not learn it (docs/lab/2026-11-25-phase.md).
    if motion in MOTIONS[4:6]:
        return 0.5, 0.5 - rng.uniform(0.2, high - 0.5), 1.0  # from the top, as on a clock
    if motion in ("growing", "shrinking"):
        ratio = rng.uniform(1.9, 2.15)
        room = MARGIN + (size * ratio if motion == "growing" else size)
        x, y = rng.uniform(room, 1 - room), rng.uniform(room, 1 - room)
        return x, y, ratio if motion == "growing" else 1 / ratio
    if motion == "bouncing":
        return x, rng.uniform(low + BOUNCE_HEIGHT, high), 2.0
    if motion == TURN:
        return rng.uniform(0.46, 0.54), rng.uniform(0.46, 0.54), 1.0
    return x, y, 0.0
