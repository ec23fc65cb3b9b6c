"""Hints for pretraining: what each image token should know of its picture.

Half-way through the transformer, a small head predicts from each noisy token what is drawn and
where its centre is. That is all there is in a picture, so what the head can read the second half
can draw. This is representation alignment (REPA, arXiv 2410.06940) with the renderer's knowledge
instead of another network's. The head is discarded afterwards.

Another head predicts, after the last double block, the cell that the token belongs to. Pictures of
one thing can be drawn without it, clips cannot: an adapter would have to teach the transformer
to count cells (docs/lab/2026-11-24-places.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gridctl.geometry import Grid
from gridctl.tiny.render import pose
from gridctl.tiny.scene import Scene
from gridctl.tiny.words import BACKGROUNDS, COLORS, SHAPES, SOLIDS, STYLES

# Attributes of a scene that one picture shows → their names.
LOOKS = {
    "shape": (*SHAPES, *SOLIDS),
    "color": tuple(COLORS),
    "background": tuple(BACKGROUNDS),
    "style": STYLES,
}
_NAMED = sum(len(names) for names in LOOKS.values())
WIDTH = _NAMED + 5  # and x, y, radius, and a solid's angle as cosine and sine
PLACE_WIDTH = 5
_POSITION = 3.0  # scales that give places and sizes a spread of about 1
_RADIUS, _RADIUS_SCALE = 0.27, 8.0


def picture_hints(scene: Scene, t: float) -> list[float]:
    """(WIDTH,) for the frame of `scene` at time `t`: names as 0 or 1, then pose and angle."""
    named = [float(getattr(scene, look) == name) for look, names in LOOKS.items() for name in names]
    angle = 2 * math.pi * t
    turned = [math.cos(angle), math.sin(angle)] if scene.kind == "solid" else [0.0, 0.0]
    return [*named, *pose(scene, t), *turned]


def token_hints(pictures: Tensor, tokens: int) -> Tensor:
    """Hints (..., WIDTH) of square pictures of tokens x tokens → (..., tokens, tokens, WIDTH).

    Places become distances from the token's own centre, in sides of the picture.
    """
    centers = (torch.arange(tokens) + 0.5) / tokens
    hints = pictures[..., None, None, :].repeat(*[1] * (pictures.ndim - 1), tokens, tokens, 1)
    x, y, radius = (hints[..., _NAMED + k] for k in range(3))
    x.sub_(centers[None, :]).mul_(_POSITION)
    y.sub_(centers[:, None]).mul_(_POSITION)
    radius.sub_(_RADIUS).mul_(_RADIUS_SCALE)
    return hints


def token_places(grid: Grid) -> Tensor:
    """(image tokens, PLACE_WIDTH): each token's cell and its own place in the image.

    The cell's place in reading order, its row and its column, as shares of the grid with a
    spread of about 1; then the token's row and column, in eights.
    """
    width, height = grid.size("token")
    places = torch.empty(height, width, PLACE_WIDTH)
    for frame, box in enumerate(grid.boxes("token")):
        row, col = grid.position(frame)
        shares = (frame + 0.5) / grid.num_frames, (row + 0.5) / grid.rows, (col + 0.5) / grid.cols
        places[box.slices][..., :3] = (torch.tensor(shares) - 0.5) * 3.5
    places[..., 3] = torch.arange(height)[:, None] / 8
    places[..., 4] = torch.arange(width) / 8
    return places.flatten(0, 1)


class HintHead(nn.Module):
    """A head that reads hints from the image tokens after a block of a FLUX transformer."""

    def __init__(self, block: nn.Module, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self._seen: list[Tensor] = []
        block.register_forward_hook(self._see)

    def _see(self, _module: nn.Module, _inputs: object, output: Sequence[Tensor]) -> None:
        self._seen = [output[1]]  # text comes first, in both kinds of block

    def loss(self, hints: Tensor) -> Tensor:
        """Mean squared error against hints (B, tokens, N) of the last forward pass."""
        (states,) = self._seen
        return F.mse_loss(self.layers(states), hints.expand(len(states), -1, -1))


def picture_head(block: nn.Module, width: int) -> HintHead:
    """The head for `token_hints`."""
    layers = nn.Linear(width, width), nn.SiLU(), nn.Linear(width, WIDTH)
    return HintHead(block, nn.Sequential(nn.LayerNorm(width), *layers))


def place_head(block: nn.Module, width: int) -> HintHead:
    """The head for `token_places`: linear, so that a LoRA can use what it reads."""
    return HintHead(block, nn.Sequential(nn.LayerNorm(width), nn.Linear(width, PLACE_WIDTH)))
