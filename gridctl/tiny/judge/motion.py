"""Which of the world's motions a path is: each motion's model is fitted, the best one wins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Least size of a motion, in cell sides or turns: well below the world's motions, well above what
# the eye and a measurement take for rest.
LEAST_TRAVEL = 0.25  # the world's: 0.4
LEAST_RATIO = 1.45  # of radii; the world's: 1.9
LEAST_BOUNCE = 0.25  # the world's: 0.42
LEAST_TURNS = 0.45  # the world's: 1
ORBIT = (0.14, 0.45)  # radius; the world's: 0.2 to 0.28
ORBIT_CENTER = 0.15  # farthest from the middle of the frame
MOST_TILT = math.tan(math.radians(25))  # of a straight path from its axis

# Starting points of the fits of an orbit (turns in a clip) and a bounce (bounces in a clip, phase);
# the best one is refined. The world's: one turn, two bounces.
_TURNS = np.concatenate([np.linspace(0.5, 1.25, 10), -np.linspace(0.5, 1.25, 10)])
_BOUNCES = np.array([(b, p) for b in np.linspace(1.5, 2.5, 11) for p in np.linspace(0, 0.95, 20)])


@dataclass(frozen=True, kw_only=True)
class MotionFit:
    """A motion's model fitted to a path."""

    motion: str
    path: Array  # (F, 3): x, y, radius in cell sides
    error: float  # rms distance of the measured path from it, in cell sides


def fit_motions(path: Array) -> list[MotionFit]:
    """The motions that a path (F, 3) of (x, y, radius) could be, best fit first.

    Lengths are in cell sides, the frame's middle is (0.5, 0.5). A motion that would have to be
    smaller than its least is not among them; standing still always is.
    """
    fits = []
    for motion, fitted in _candidates(path):
        error = float(np.sqrt(((path - fitted) ** 2).sum(-1).mean()))
        fits.append(MotionFit(motion=motion, path=fitted, error=error))
    return sorted(fits, key=lambda fit: fit.error)


def _candidates(path: Array) -> Iterator[tuple[str, Array]]:
    middle = np.broadcast_to(np.median(path, axis=0), path.shape)
    yield "standing still", middle
    time = np.linspace(0, 1, len(path))
    line = np.stack([np.ones_like(time), time], -1)  # (F, 2)
    start, way = np.linalg.lstsq(line, path, rcond=None)[0]  # each (x, y, radius)
    straight = start + time[:, None] * way
    right, down, growth = way
    if max(abs(right), abs(down)) >= LEAST_TRAVEL:
        sideways = abs(right) > abs(down)
        along, across = (right, down) if sideways else (down, right)
        if abs(across) <= MOST_TILT * abs(along):
            back, forth = ("left", "right") if sideways else ("up", "down")
            fitted = np.concatenate([straight[:, :2], middle[:, 2:]], -1)
            yield f"moving {forth if along > 0 else back}", fitted
    radii = np.maximum([start[2], start[2] + growth], 1e-3)
    if max(radii) >= LEAST_RATIO * min(radii):
        fitted = np.concatenate([middle[:, :2], straight[:, 2:]], -1)
        yield "growing" if growth > 0 else "shrinking", fitted
    if len(path) >= 5:
        yield from _orbits(path, middle)
        yield from _bounces(path, middle)


def _orbits(path: Array, middle: Array) -> Iterator[tuple[str, Array]]:
    time = np.linspace(0, 1, len(path))
    way = path[:, :2].ravel()  # x and y of each frame in turn
    bases, inverses = _orbit_bases(len(path))
    solved = inverses @ way  # (G, 4)
    error = ((np.einsum("gnk,gk->gn", bases, solved) - way) ** 2).sum(-1)
    best = int(error.argmin())
    turns = float(_TURNS[best])
    known: Array = solved[best]
    for _ in range(3):
        basis = _orbit_basis(np.array([turns]), time)[0]
        x, y = (basis @ known).reshape(-1, 2).T
        angular = 2 * math.pi * time[:, None] * np.stack([known[1] - y, x - known[0]], -1)
        step = _solve(np.column_stack([basis, angular.ravel()]), way - basis @ known)
        known, turns = np.add(known, step[:4]), turns + float(step[4])
    center_x, center_y, cos, sin = known
    off = max(abs(center_x - 0.5), abs(center_y - 0.5))
    if abs(turns) < LEAST_TURNS or off > ORBIT_CENTER:
        return
    if ORBIT[0] <= math.hypot(cos, sin) <= ORBIT[1]:
        fitted = (_orbit_basis(np.array([turns]), time)[0] @ known).reshape(-1, 2)
        motion = "moving clockwise" if turns > 0 else "moving counter-clockwise"
        yield motion, np.concatenate([fitted, middle[:, 2:]], -1)


@lru_cache(maxsize=8)
def _orbit_bases(count: int) -> tuple[Array, Array]:
    """(G, 2F, 4) and their inverses (G, 4, 2F), for each of _TURNS."""
    bases = _orbit_basis(_TURNS, np.linspace(0, 1, count))
    return bases, np.asarray(np.linalg.pinv(bases), np.float64)


def _orbit_basis(turns: Array, time: Array) -> Array:
    """x and y of each time as sums of centre x, centre y, cosine and sine: (G, 2F, 4)."""
    angle = 2 * math.pi * turns[:, None] * time
    cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones_like(angle), np.zeros_like(angle)
    x, y = np.stack([one, zero, cos, -sin], -1), np.stack([zero, one, sin, cos], -1)
    return np.stack([x, y], 2).reshape(len(turns), -1, 4)


def _bounces(path: Array, middle: Array) -> Iterator[tuple[str, Array]]:
    time = np.linspace(0, 1, len(path))
    y = path[:, 1]
    bases = _bounce_bases(len(path))  # (G, F), each with mean 0
    heights = bases @ y / np.maximum((bases**2).sum(-1), 1e-9)
    error = ((y - y.mean() - heights[:, None] * bases) ** 2).sum(-1)
    error[heights < LEAST_BOUNCE] = np.inf
    best = int(error.argmin())
    if not np.isfinite(error[best]):
        return
    speed, phase = (float(one) for one in _BOUNCES[best])
    fits = []
    for _ in range(5):
        fall = (speed * time + phase) % 1
        basis = np.stack([np.ones_like(fall), -4 * fall * (1 - fall)], -1)
        solved = _solve(basis, y)
        left = y - basis @ solved
        fits.append((float(left @ left), float(solved[1]), y - left))
        slope = -4 * solved[1] * (1 - 2 * fall)
        step = _solve(np.column_stack([basis, slope * time, slope]), left)
        # At its lowest point a bounce has no slope: a step may lead astray there.
        speed, phase = speed + np.clip(step[2], -0.1, 0.1), phase + np.clip(step[3], -0.1, 0.1)
    _, height, down = min(fits, key=lambda fit: fit[0])
    if height >= LEAST_BOUNCE:
        fitted = middle.copy()
        fitted[:, 1] = down
        yield "bouncing", fitted


def _solve(basis: Array, values: Array) -> Array:
    return np.asarray(np.linalg.lstsq(basis, values, rcond=None)[0], np.float64)


@lru_cache(maxsize=8)
def _bounce_bases(count: int) -> Array:
    """Depth of a bounce of height 1, minus its mean: (G, F), for each of _BOUNCES."""
    fall = (_BOUNCES[:, :1] * np.linspace(0, 1, count) + _BOUNCES[:, 1:]) % 1
    down = -4 * fall * (1 - fall)
    bases: Array = down - down.mean(-1, keepdims=True)
    return bases
