"""Clips of a motion that the built-in model has never seen: shapes that beat like a heart.

python examples/beating.py FOLDER [COUNT]

Each clip has its caption in a .txt beside it. No clip shows a red heart: that one is for you to
draw.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from gridctl.media.write import write_clip
from gridctl.tiny.captions import still_caption
from gridctl.tiny.render import Frames, render_frame
from gridctl.tiny.scene import Scene, sample_scene

FRAMES = 24
BEATS = 4
SWELL = 0.5  # how much the radius grows with each beat


def beating_scene(rng: np.random.Generator) -> Scene:
    """A shape at rest, with room to swell."""
    scene = sample_scene(rng, kind="shape", held_out=None, motion="standing still")
    if (scene.color, scene.shape) == ("red", "heart"):
        return beating_scene(rng)
    radius = rng.uniform(0.22, 0.3)
    largest = radius * (1 + SWELL)
    x, y = rng.uniform(largest, 1 - largest, 2)
    return replace(scene, size=radius, x=x, y=y)


def beat(scene: Scene, size: tuple[int, int]) -> Frames:
    """The clip, (F, H, W, 3) for `size` (width, height) in pixels."""
    swell = [SWELL * math.sin(math.pi * BEATS * k / FRAMES) ** 2 for k in range(FRAMES)]
    return np.stack(
        [render_frame(replace(scene, size=scene.size * (1 + s)), 0, size) for s in swell]
    )


def main(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(1, count + 1):
        scene = beating_scene(rng)
        path = folder / f"beat_{number:03}.mp4"
        write_clip(beat(scene, (128, 128)), path, fps=8, force=True)
        thing, _, ground = still_caption(scene).partition(" on ")
        path.with_suffix(".txt").write_text(f"{thing} beating on {ground}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 32)
