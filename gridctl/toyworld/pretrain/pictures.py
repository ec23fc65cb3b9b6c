"""What the built-in base is trained on: single pictures, as arrays and as latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gridctl.files import atomic_file
from gridctl.toyworld.render import render_frame
from gridctl.toyworld.scene import Scene, sample_scene


def draw_picture(rng: np.random.Generator, side: int) -> tuple[Scene, npt.NDArray[np.uint8]]:
    """A scene and one frame of it at a random time, (side, side, 3); nothing held out."""
    scene = sample_scene(rng)
    return scene, render_frame(scene, float(rng.random()), (side, side))


def picture_pool(path: Path, *, count: int, seed: int, side: int = 64) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3): half drawn at that side, half cut from pictures up to twice as big.

    Rendered once and kept at `path`.
    """
    if not path.exists():
        rng = np.random.default_rng(seed)
        pool = np.empty((count, side, side, 3), np.uint8)
        for index in range(count):
            whole = side if rng.random() < 0.5 else int(rng.integers(side, 2 * side + 1))
            _, picture = draw_picture(rng, whole)
            top, left = rng.integers(0, whole - side + 1, 2)
            pool[index] = picture[top : top + side, left : left + side]
        with atomic_file(path) as temporary:
            np.save(temporary, pool)
    kept: npt.NDArray[np.uint8] = np.load(path)
    return kept
