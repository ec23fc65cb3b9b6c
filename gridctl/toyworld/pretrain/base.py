"""Train the transformer and the text encoders of the built-in base, together, from nothing.

It becomes an image model: it sees single pictures of several sizes and collages of unrelated
pictures, as the internet has them, and never two moments of one scene. What a grid in time
is, only an adapter can teach it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gridctl.files import atomic_file
from gridctl.flux.flow import add_noise, default_mu, draw_sigmas, velocity
from gridctl.flux.latents import encode_frames, join_cells, predict_velocity
from gridctl.flux.text import TextEncoders
from gridctl.geometry import Grid
from gridctl.toyworld.captions import collage_caption, still_caption
from gridctl.toyworld.pretrain.model import build_scheduler, build_transformer
from gridctl.toyworld.pretrain.pictures import draw_picture
from gridctl.toyworld.scene import Scene
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)

PICTURES = {64: 12_000, 96: 3_000, 128: 3_000}  # side in pixels → how many are drawn
COLLAGE_CELL = 64
COLLAGE_SHARE = 0.5  # of all steps
LEARNING_RATE = 1.5e-3
WARMUP = 100
TOKENS_PER_STEP = 8 * (384 + 64)  # image and text, so that all sizes cost about the same
MAX_BATCH = 32
CHECKPOINT_EVERY = 250


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Scenes and their latents (N, 16, side/8, side/8), by side in pixels."""

    scenes: dict[int, list[Scene]]
    latents: dict[int, Tensor]


def train_base(
    work: Path,
    vae: AutoencoderKL,
    text: TextEncoders,
    *,
    steps: int,
    seed: int,
    log: Callable[[str], None],
) -> tuple[Any, float]:
    """Train for `steps`, or go on where `work` has it; returns transformer and mean loss.

    `text` is trained in place.
    """
    torch.manual_seed(seed)
    transformer = build_transformer()
    modules = {"transformer": transformer, "clip": text.clip, "t5": text.t5}
    model = nn.ModuleDict(modules).train()
    pictures = encode_pictures(work, vae, seed=seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01
    )
    step = 0
    if saved := list_checkpoints(work / "base"):
        step, tensors, _ = read_checkpoint(saved[-1])
        weights = {k: v for k, v in tensors.items() if not k.startswith("optimizer.")}
        model.load_state_dict(weights, strict=False)
        load_optimizer(optimizer, tensors)
    scheduler = build_scheduler()
    started, first, mean_loss = time.monotonic(), step, float("nan")
    while step < steps:
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / WARMUP)
            group["lr"] = LEARNING_RATE * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        latents, captions = draw_batch(pictures, seed=seed, step=step)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        tokens = latents.shape[-1] * latents.shape[-2] // 4
        mu = default_mu(scheduler.config, tokens)
        sigma = draw_sigmas(len(latents), mu=mu, mean=0.0, std=1.0, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        embeds, pooled = text(captions)
        predicted = predict_velocity(
            transformer,
            add_noise(latents, noise, sigma[:, None, None, None]),
            sigma=sigma,
            embeds=embeds,
            pooled=pooled,
            # Never distilled, so any scale has to mean the same.
            guidance=1 + 4 * float(torch.rand((), generator=generator)),
        )
        loss = F.mse_loss(predicted, velocity(latents, noise))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        mean_loss = loss.item() if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 50 == 0:
            pace = (time.monotonic() - started) / (step - first)
            log(f"base step {step}/{steps} loss {mean_loss:.4f} {pace:.2f} s/step")
        if step % CHECKPOINT_EVERY == 0 or step == steps:
            # By parameter: T5 has its embedding under two names.
            tensors = {**dict(model.named_parameters()), **optimizer_tensors(optimizer)}
            write_checkpoint(work / "base", step, tensors, facts={}, keep=2)
    return transformer, mean_loss


def encode_pictures(work: Path, vae: AutoencoderKL, *, seed: int) -> Pictures:
    """Draw the pictures and encode them; the latents are kept in `work`."""
    scenes: dict[int, list[Scene]] = {}
    latents: dict[int, Tensor] = {}
    for side, count in PICTURES.items():
        rng = np.random.default_rng([seed, side])
        path = work / f"latents-{side}.safetensors"
        drawn = _draw(rng, side, count)
        if path.exists():
            scenes[side] = [scene for scene, _ in drawn]
            latents[side] = load_file(path)["latents"]
            continue
        pairs = list(drawn)
        scenes[side] = [scene for scene, _ in pairs]
        pixels = np.stack([picture for _, picture in pairs])
        latents[side] = encode_frames(vae, pixels, batch=64).contiguous()
        with atomic_file(path) as temporary:
            save_file({"latents": latents[side]}, temporary)
    return Pictures(scenes=scenes, latents=latents)


def _draw(rng: np.random.Generator, side: int, count: int) -> Iterator[tuple[Scene, Any]]:
    for _ in range(count):
        yield draw_picture(rng, side)


def draw_batch(pictures: Pictures, *, seed: int, step: int) -> tuple[Tensor, list[str]]:
    """Latents (B, 16, H, W) and captions of one step; a pure function of (seed, step)."""
    rng = np.random.default_rng([seed, step])
    if rng.random() < COLLAGE_SHARE:
        grid = Grid(
            rows=int(rng.integers(1, 5)),
            cols=int(rng.integers(2, 7)),
            cell=(COLLAGE_CELL, COLLAGE_CELL),
        )
        batch = _batch_size(grid.num_tokens)
        indices = rng.integers(0, PICTURES[COLLAGE_CELL], (batch, grid.num_frames))
        latents = join_cells(pictures.latents[COLLAGE_CELL][torch.from_numpy(indices)], grid)
        scenes = pictures.scenes[COLLAGE_CELL]
        return latents, [collage_caption([scenes[i] for i in row], rng) for row in indices]
    side = int(rng.choice(list(PICTURES)))
    chosen = rng.integers(
        0, PICTURES[side], _batch_size(Grid(rows=1, cols=1, cell=(side, side)).num_tokens)
    )
    captions = [still_caption(pictures.scenes[side][i], rng) for i in chosen]
    return pictures.latents[side][torch.from_numpy(chosen)], captions


def _batch_size(image_tokens: int) -> int:
    return min(MAX_BATCH, TOKENS_PER_STEP // (image_tokens + 64))
