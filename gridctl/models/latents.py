"""Frames ↔ FLUX.1's latents → velocities.

Latents are what a token holds: (B, 64, H/16, W/16), 2x2 patches of the VAE's 16 channels at 1/8.

Frames are encoded and decoded cell by cell: the VAE's convolutions, norms and attention
would otherwise mix neighbouring cells, and draw their borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """B prompts, encoded: T5's states (B, L, D) and CLIP's pooled vector (B, P)."""

    embeds: Tensor
    pooled: Tensor

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Several as one batch."""
        return cls(
            embeds=torch.cat([part.embeds for part in parts]),
            pooled=torch.cat([part.pooled for part in parts]),
        )

    def to(self, device: torch.device) -> Conditioning:
        """The same on `device`."""
        return Conditioning(embeds=self.embeds.to(device), pooled=self.pooled.to(device))


@torch.no_grad()
def encode_frames(vae: Any, frames: npt.NDArray[np.uint8], *, batch: int) -> Tensor:
    """(F, H, W, 3) uint8 → latents (F, 64, H/16, W/16), shifted and scaled as FLUX trains on.

    The posterior's mode, not a sample: the same frame always gives the same latents.
    """
    parts = []
    weight = next(vae.parameters())  # diffusers' `vae.device` walks through all modules
    for start in range(0, len(frames), batch):
        pixels = torch.from_numpy(frames[start : start + batch]).to(weight)
        pixels = rearrange(pixels / 127.5 - 1, "f h w c -> f c h w")
        parts.append(vae.encode(pixels).latent_dist.mode())
    codes = (torch.cat(parts) - vae.config.shift_factor) * vae.config.scaling_factor
    return patchify(codes)


@torch.no_grad()
def decode_frames(vae: Any, latents: Tensor, *, batch: int) -> npt.NDArray[np.uint8]:
    """Latents (F, 64, h, w) → frames (F, 16h, 16w, 3) uint8; the inverse of `encode_frames`."""
    codes = unpatchify(latents) / vae.config.scaling_factor + vae.config.shift_factor
    parts = []
    weight = next(vae.parameters())
    for start in range(0, len(codes), batch):
        pixels = vae.decode(codes[start : start + batch].to(weight)).sample
        pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        parts.append(rearrange(pixels, "f c h w -> f h w c").cpu())
    return torch.cat(parts).numpy()


def patchify(codes: Tensor) -> Tensor:
    """The VAE's (..., C, H, W) → latents (..., 4C, H/2, W/2): a token holds a 2x2 patch."""
    return rearrange(codes, "... c (h p) (w q) -> ... (c p q) h w", p=2, q=2)


def unpatchify(latents: Tensor) -> Tensor:
    """Latents (..., 4C, h, w) → the VAE's (..., C, 2h, 2w); undoes `patchify`."""
    return rearrange(latents, "... (c p q) h w -> ... c (h p) (w q)", p=2, q=2)


def draw_noise(channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Noise (1, channels, height, width), drawn in the layout of FLUX's VAE and patchified."""
    shape = (1, channels // 4, 2 * height, 2 * width)
    return patchify(torch.randn(shape, generator=generator))


def image_ids(*, height: int, width: int, device: torch.device) -> Tensor:
    """(N, 3) rotary positions (0, row, col) of height x width tokens."""
    rows = torch.arange(height, device=device)
    cols = torch.arange(width, device=device)
    row, col = torch.meshgrid(rows, cols, indexing="ij")
    return torch.stack([torch.zeros_like(row), row, col], dim=-1).reshape(-1, 3).float()


def predict_velocity(
    transformer: Any,
    noisy: Tensor,
    *,
    sigma: Tensor,
    prompt: Conditioning,
    guidance: float,
) -> Tensor:
    """FLUX's prediction for noisy latents (B, C, H, W) at `sigma` (B,), of the same shape.

    `guidance` is FLUX.1-dev's distilled scale; a base without a guidance embedding (schnell)
    does not use it.
    """
    batch, _, height, width = noisy.shape  # in tokens
    scale = None
    if unwrap(transformer).config.guidance_embeds:
        scale = torch.full((batch,), guidance, device=noisy.device, dtype=torch.float32)
    tokens = transformer(
        # Contiguous, so that products are rounded alike whatever the layout before.
        hidden_states=rearrange(noisy, "b c h w -> b (h w) c").to(prompt.embeds.dtype).contiguous(),
        encoder_hidden_states=prompt.embeds,
        pooled_projections=prompt.pooled,
        timestep=sigma.to(prompt.embeds.dtype),  # the transformer multiplies by 1000 itself
        img_ids=image_ids(height=height, width=width, device=noisy.device),
        txt_ids=torch.zeros(prompt.embeds.shape[1], 3, device=noisy.device),
        guidance=scale,
        return_dict=False,
    )[0]
    predicted: Tensor = rearrange(tokens.to(noisy.dtype), "b (h w) c -> b c h w", h=height)
    return predicted


def unwrap(model: Any) -> Any:
    """The model inside a DistributedDataParallel, or the model itself."""
    return getattr(model, "module", model)
