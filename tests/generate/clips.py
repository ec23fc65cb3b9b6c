"""Clips of the toy world for tests, and reading the frames that were written."""

from pathlib import Path

import numpy as np
from PIL import Image

from gridctl.media.images import Frames
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Scene

RED, BLUE = (f"a {color} circle moving right on a black background" for color in ("red", "blue"))
SCENE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="moving right",
    size=0.2, x=0.2, y=0.5, speed=0.5,
)  # fmt: skip


def red_circle(count: int, size: tuple[int, int] = (32, 32)) -> Frames:
    """A red circle that moves right: frames (F, H, W, 3)."""
    return render_clip(SCENE, count, size)


def frames_of(folder: Path) -> Frames:
    """The PNG frames of a folder, (F, H, W, 3)."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])
