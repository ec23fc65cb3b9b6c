"""Train the decoder of the built-in VAE; its encoder is a closed form (`codec`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone reads
from diffusers import AutoencoderKL

from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from tiny_model.batches import to_pixels

LEARNING_RATE = 2e-3
WARMUP = 50
# Crops are four times cheaper and teach nearly everything; whole cells teach the rest.
CROP, CROP_BATCH = 32, 16
CELL, CELL_BATCH = 64, 8
CROP_SHARE = 0.65  # of all steps
LATENT_NOISE = 0.1  # at most, so that the decoder tolerates small errors of latents
CHECKPOINT_EVERY = 250


def train_decoder(
    work: Path,
    vae: AutoencoderKL,
    pool: torch.Tensor,
    *,
    steps: int,
    seed: int,
    device: str,
    log: Callable[[str], None],
) -> None:
    """Train `vae`'s decoder in place for `steps`, or resume from `work`.

    `pool` is (N, 64, 64, 3) uint8.
    """
    vae.to(device, memory_format=torch.channels_last)
    decoder = vae.decoder
    optimizer = torch.optim.AdamW(
        decoder.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0
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
        pictures = _batch(pool, generator, crops=step < CROP_SHARE * steps).to(device)
        with torch.no_grad():
            latents = vae.encode(pictures).latent_dist.mode()
        noise = torch.randn(latents.shape, generator=generator)
        amount = LATENT_NOISE * torch.rand((len(noise), 1, 1, 1), generator=generator)
        drawn = decoder(latents + (amount * noise).to(device))
        squared = F.mse_loss(drawn, pictures)
        # The L1 term keeps plain colours plain, where the squared error is already tiny.
        loss = squared + F.l1_loss(drawn, pictures)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            pace = (time.monotonic() - started) / (step - first)
            log(f"vae step {step}/{steps} mse {squared.item():.5f} {pace:.2f} s/step")
        if step % CHECKPOINT_EVERY == 0 or step == steps:
            tensors = {**vae.state_dict(), **optimizer_tensors(optimizer)}
            write_checkpoint(work / "vae", step, tensors, metadata={}, keep=2)


def _batch(pool: torch.Tensor, generator: torch.Generator, *, crops: bool) -> torch.Tensor:
    """(B, 3, H, W) in -1..1."""
    side, count = (CROP, CROP_BATCH) if crops else (CELL, CELL_BATCH)
    pictures = pool[torch.randint(len(pool), (count,), generator=generator)]
    top, left = torch.randint(pool.shape[1] - side + 1, (2,), generator=generator).tolist()
    return to_pixels(pictures[:, top : top + side, left : left + side])


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: torch.Tensor) -> float:
    """Mean over pictures of the round trip's PSNR in dB, in 8-bit pixels."""
    pixels = to_pixels(pictures).to(vae.device)
    drawn = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.cpu()
    got = ((drawn.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1)
    squared = (got - pictures.float()).square().mean((1, 2, 3)).numpy()
    return float(np.mean(10 * np.log10(255**2 / np.maximum(squared, 1e-3))))
