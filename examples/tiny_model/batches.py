"""The batches of the base: single pictures, collages of unrelated ones, sheets of one kind.

None shows two moments of one scene: only an adapter teaches grids of frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from gridctl.diffusion.cells import join_cells
from gridctl.geometry import Grid
from gridctl.models.flux1 import patchify
from gridctl.tiny.captions import clip_caption, collage_caption, sheet_caption, still_caption
from gridctl.tiny.render import render_frame
from gridctl.tiny.scene import Scene, sample_scene
from tiny_model.codec import Code
from tiny_model.hints import picture_hints, token_hints
from tiny_model.model import TEXT_TOKENS

PICTURES = {64: 80_000, 96: 8_000, 128: 8_000}  # side in pixels → how many are drawn
CELL = 64  # side of a cell in collages and sheets
# Few shapes, because each is compiled separately.
SINGLES = (64, 64, 96, 128)  # sides of single pictures, drawn at random
GRIDS = ((2, 3), (3, 4), (4, 6))  # rows and columns of collages and sheets, drawn at random
SHARES = {"sheet": 0.45, "collage": 0.1, "single": 0.45}  # of the steps after the first ones
PROMPT_TOKENS = 16  # of most prompts of a single picture: the longest has no more
PADDED_SHARE = 0.25  # of the batches of the smallest, whose prompts are as long as in generating
# Share of long prompts of one thing that mention a motion, which the picture does not show. Without
# them the words of motion, when an adapter's training brings them, make the transformer diverge
# (docs/lab/2026-11-24-words.md).
MOVING_SHARE = 0.5
EMPTY_SHARE = 0.1  # share of empty prompts, for classifier-free guidance


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


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """By side in pixels: scenes, latents (N, 64, side/16, side/16), hints (N, hints.WIDTH)."""

    scenes: dict[int, list[Scene]]
    latents: dict[int, Tensor]
    hints: dict[int, Tensor]

    @cached_property
    def kinds(self) -> list[npt.NDArray[np.int64]]:
        """The cells that show one kind of thing, for each kind."""
        kinds: dict[tuple[str, ...], list[int]] = {}
        for index, scene in enumerate(self.scenes[CELL]):
            look = (scene.shape, scene.color, scene.background, scene.style)
            kinds.setdefault(look, []).append(index)
        return [np.array(indices) for indices in kinds.values()]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Latents (B, 64, H, W) of grids, as many captions, and hints (B, image tokens, hints.WIDTH).

    Most of the text of a short prompt is padding. With `text_tokens` below TEXT_TOKENS it is left
    out, which makes small pictures twice as fast; the others teach what padding is.
    """

    grid: Grid
    latents: Tensor
    captions: list[str]
    hints: Tensor
    text_tokens: int


def draw_pictures(code: Code, *, seed: int) -> Pictures:
    """Draw and encode all pictures of the training; the same seed gives the same."""
    scenes: dict[int, list[Scene]] = {}
    latents: dict[int, Tensor] = {}
    hints: dict[int, Tensor] = {}
    for side, count in PICTURES.items():
        rng = np.random.default_rng([seed, side])
        drawn = [draw_picture(rng, side) for _ in range(count)]
        scenes[side] = [scene for scene, _, _ in drawn]
        hints[side] = torch.tensor([picture_hints(scene, t) for scene, t, _ in drawn])
        pixels = torch.from_numpy(np.stack([picture for _, _, picture in drawn]))
        codes = torch.cat([code.encode(to_pixels(part)) for part in pixels.split(1000)])
        latents[side] = patchify(codes)
    return Pictures(scenes=scenes, latents=latents, hints=hints)


def draw_batch(
    pictures: Pictures, *, seed: int, step: int, only_singles: bool, tokens: int
) -> Batch:
    """The batch of one step: about `tokens` of image and text, so that all steps cost the same.

    A pure function of its arguments.
    """
    rng = np.random.default_rng([seed, step])
    what = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if only_singles or what == "single":
        return _draw_singles(pictures, rng, tokens)
    rows, cols = GRIDS[int(rng.integers(len(GRIDS)))]
    grid = Grid(rows=rows, cols=cols, cell=(CELL, CELL))
    batch, scenes = tokens // (grid.num_tokens + TEXT_TOKENS), pictures.scenes[CELL]
    if what == "sheet":
        drawn = [_draw_kind(pictures, grid.num_frames, rng) for _ in range(batch)]
        indices = np.stack(drawn)
        captions = [
            clip_caption(scenes[row[0]], rng)
            if rng.random() < MOVING_SHARE
            else sheet_caption(scenes[row[0]], grid.num_frames, rng)
            for row in indices
        ]
    else:
        indices = rng.integers(0, PICTURES[CELL], (batch, grid.num_frames))
        captions = [collage_caption([scenes[i] for i in row], rng) for row in indices]
    cells = torch.from_numpy(indices)
    hints = token_hints(pictures.hints[CELL][cells], CELL // 16)
    return Batch(
        grid=grid,
        latents=join_cells(pictures.latents[CELL][cells], grid),
        captions=_emptied(captions, rng),
        hints=rearrange(hints, "b (rows cols) h w k -> b (rows h cols w) k", rows=rows),
        text_tokens=TEXT_TOKENS,
    )


def _draw_singles(pictures: Pictures, rng: np.random.Generator, tokens: int) -> Batch:
    side = int(rng.choice(SINGLES))
    is_padded = side == min(SINGLES) and rng.random() < PADDED_SHARE
    text = TEXT_TOKENS if is_padded else PROMPT_TOKENS
    scenes = pictures.scenes[side]
    grid = Grid(rows=1, cols=1, cell=(side, side))
    count = tokens // (grid.num_tokens + text)
    indices = rng.integers(0, PICTURES[side], count)
    chosen = torch.from_numpy(indices)
    captions = [
        clip_caption(scenes[i], rng)
        if is_padded and rng.random() < MOVING_SHARE
        else still_caption(scenes[i], rng)
        for i in indices
    ]
    return Batch(
        grid=grid,
        latents=pictures.latents[side][chosen],
        captions=_emptied(captions, rng),
        hints=token_hints(pictures.hints[side][chosen], side // 16).flatten(1, 2),
        text_tokens=text,
    )


def _emptied(captions: list[str], rng: np.random.Generator) -> list[str]:
    return ["" if rng.random() < EMPTY_SHARE else caption for caption in captions]


def _draw_kind(pictures: Pictures, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(count,) pictures of one kind, each once where there are enough."""
    kind = pictures.kinds[int(rng.integers(len(pictures.kinds)))]
    return rng.choice(kind, count, replace=len(kind) < count)
