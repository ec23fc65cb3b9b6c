"""What the built-in base is trained on: single pictures, as arrays and as latents."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gridctl.tiny.render import render_frame
from gridctl.tiny.scene import Scene, sample_scene


def draw_picture(rng: np.random.Generator, side: int) -> tuple[Scene, float, npt.NDArray[np.uint8]]:
    """A scene, a random time in 0..1, and the frame then, (side, side, 3); nothing held out."""
    scene, t = sample_scene(rng), float(rng.random())
    return scene, t, render_frame(scene, t, (side, side))


def picture_pool(count: int, *, seed: int, side: int = 64) -> Tensor:
    """(count, side, side, 3) uint8: half drawn so, half cut from pictures up to twice as big."""
    rng = np.random.default_rng(seed)
    pool = np.empty((count, side, side, 3), np.uint8)
    for index in range(count):
        whole = side if rng.random() < 0.5 else int(rng.integers(side, 2 * side + 1))
        _, _, picture = draw_picture(rng, whole)
        top, left = rng.integers(0, whole - side + 1, 2)
        pool[index] = picture[top : top + side, left : left + side]
    return torch.from_numpy(pool)


def to_pixels(pictures: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) in -1..1."""
    pixels = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)
