"""Whether the views of a solid are those of a steady full turn, in its order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridctl.tiny.judge.find import Floats

# Views that explain a frame as well as the best one does, up to so much of the object, are all
# possible: from behind a pyramid's mark cannot be seen.
SAME_VIEW = 0.005
NEAR = 10.0  # degrees that a view may differ from the steady turn's
IN_ORDER = 0.95  # of the frames must be where the turn has them


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The views of a clip of a solid. Angles are in degrees, 0 to 360."""

    angles: tuple[float, ...]  # of each frame; where several are possible, the turn's or nearest
    turn: Floats  # (F,) of the steady full turn that fits best
    still: float  # of the one view that fits best
    in_order: bool  # whether the frames' views are the turn's
    frozen: bool  # whether they are all the same
    agreement: float  # share of the frames for which that holds


def read_turn(left: Floats) -> Turn:
    """Read the views from what each one leaves unexplained of each frame, (F, VIEWS).

    The world's solids all turn the same way round; where the turn starts is free.
    """
    count, views = left.shape
    frames = np.arange(count)
    step = 360 / views
    starts = np.arange(0, views, 0.5)
    position = starts[:, None] + frames * views / count  # (S, F)
    start = starts[_between(left, position).sum(1).argmin()]
    turn = (start + frames * views / count) * step
    still = int(left.sum(0).argmin())

    known = np.arange(views) * step
    possible = left <= left.min(1, keepdims=True) + SAME_VIEW
    chosen = np.where(possible, _gap(known, turn[:, None]), 360).argmin(1)
    in_order = float((_gap(known[chosen], turn) <= NEAR).mean())
    frozen = float(possible[:, still].mean())
    # Between views the cost is close to a parabola.
    before, here, after = (left[frames, (chosen + side) % views] for side in (-1, 0, 1))
    bend = np.maximum(before - 2 * here + after, 1e-6)
    part = np.clip((before - after) / (2 * bend), -0.5, 0.5)
    return Turn(
        angles=tuple(float(angle) for angle in (known[chosen] + part * step) % 360),
        turn=(turn % 360).astype(np.float32),
        still=still * step,
        in_order=in_order >= IN_ORDER,
        frozen=frozen >= IN_ORDER > in_order,
        agreement=max(in_order, frozen),
    )


def _gap(one: Floats, other: Floats) -> Floats:
    """Between angles in degrees, 0 to 180."""
    gap: Floats = np.abs((one - other + 180) % 360 - 180)
    return gap


def _between(left: Floats, position: Floats) -> Floats:
    """Each frame's cost at fractional positions (S, F) among its views: (S, F)."""
    views = left.shape[1]
    frames = np.arange(len(left))
    before = np.floor(position).astype(np.intp)
    part = position - before
    one, next_one = left[frames, before % views], left[frames, (before + 1) % views]
    found: Floats = one * (1 - part) + next_one * part
    return found
