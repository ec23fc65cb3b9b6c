"""Train the VAE of the built-in base on pictures of the toy world."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone reads
from diffusers import AutoencoderKL

from gridctl.toyworld.pretrain.model import build_vae
from gridctl.toyworld.pretrain.pictures import picture_pool
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)

POOL = 20_000
LEARNING_RATE = 2e-3
WARMUP = 50
# Small crops are four times cheaper and teach nearly all; whole cells teach the rest.
CROP, CROP_BATCH = 32, 16
CELL, CELL_BATCH = 64, 8
CROP_SHARE = 0.65  # of all steps
LATENT_NOISE = 0.02  # so that the decoder forgives latents that are a little off
CHECKPOINT_EVERY = 250


def train_vae(work: Path, *, steps: int, seed: int, log: Callable[[str], None]) -> AutoencoderKL:
    """Train for `steps`, or go on where `work` has it; scale and shift set from the latents."""
    torch.manual_seed(seed)
    vae = build_vae().to(memory_format=torch.channels_last)
    pool = torch.from_numpy(picture_pool(work / "pictures.npy", count=POOL, seed=seed))
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0
    )
    step = 0
    if saved := list_checkpoints(work / "vae"):
        step, tensors, _ = read_checkpoint(saved[-1])
        vae.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("optimizer.")})
        load_optimizer(optimizer, tensors)
    started, first = time.monotonic(), step
    while step < steps:
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / WARMUP)
            group["lr"] = LEARNING_RATE * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        pictures = _batch(pool, generator, crops=step < CROP_SHARE * steps)
        latents = vae.encode(pictures).latent_dist.mean
        noise = torch.randn(latents.shape, generator=generator) * LATENT_NOISE
        drawn = vae.decode(latents + noise).sample
        squared = F.mse_loss(drawn, pictures)
        # The L1 term keeps flat colours flat, where the squared one has long been content.
        loss = squared + F.l1_loss(drawn, pictures)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            pace = (time.monotonic() - started) / (step - first)
            log(f"vae step {step}/{steps} mse {squared.item():.5f} {pace:.2f} s/step")
        if step % CHECKPOINT_EVERY == 0 or step == steps:
            tensors = {**vae.state_dict(), **optimizer_tensors(optimizer)}
            write_checkpoint(work / "vae", step, tensors, facts={}, keep=2)
    _set_scale(vae, pool[:512])
    log(f"vae PSNR on whole cells {psnr(vae, pool[-256:]):.2f} dB")
    return vae


def _batch(pool: torch.Tensor, generator: torch.Generator, *, crops: bool) -> torch.Tensor:
    """(B, 3, H, W) in -1..1."""
    side, count = (CROP, CROP_BATCH) if crops else (CELL, CELL_BATCH)
    pictures = pool[torch.randint(len(pool), (count,), generator=generator)]
    top, left = torch.randint(pool.shape[1] - side + 1, (2,), generator=generator).tolist()
    return to_pixels(pictures[:, top : top + side, left : left + side])


def to_pixels(pictures: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) in -1..1."""
    pixels = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _set_scale(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Shift and scale that give latents mean 0 and standard deviation 1, as FLUX.1's do."""
    latents = vae.encode(to_pixels(pictures)).latent_dist.mode()
    vae.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std())
    )


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: torch.Tensor) -> float:
    """Mean over pictures of the round trip's PSNR in dB, in 8-bit pixels."""
    drawn = vae.decode(vae.encode(to_pixels(pictures)).latent_dist.mode()).sample
    got = ((drawn.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1)
    squared = (got - pictures.float()).square().mean((1, 2, 3)).numpy()
    return float(np.mean(10 * np.log10(255**2 / np.maximum(squared, 1e-3))))
