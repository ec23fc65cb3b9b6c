"""Between frames, latents and tokens.

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

from gridctl.geometry import Grid


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
    """(F, H, W, 3) uint8 → latents (F, 16, H/8, W/8), shifted and scaled as FLUX trains on.

    The posterior's mode, not a sample: the same frame always gives the same latents.
    """
    parts = []
    weight = next(vae.parameters())  # diffusers' `vae.device` walks through all modules
    for start in range(0, len(frames), batch):
        pixels = torch.from_numpy(frames[start : start + batch]).to(weight)
        pixels = rearrange(pixels / 127.5 - 1, "f h w c -> f c h w")
        parts.append(vae.encode(pixels).latent_dist.mode())
    latents: Tensor = (torch.cat(parts) - vae.config.shift_factor) * vae.config.scaling_factor
    return latents


@torch.no_grad()
def decode_frames(vae: Any, latents: Tensor, *, batch: int) -> npt.NDArray[np.uint8]:
    """Latents (F, 16, h, w) → frames (F, 8h, 8w, 3) uint8; the inverse of `encode_frames`."""
    latents = latents / vae.config.scaling_factor + vae.config.shift_factor
    parts = []
    weight = next(vae.parameters())
    for start in range(0, len(latents), batch):
        pixels = vae.decode(latents[start : start + batch].to(weight)).sample
        pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        parts.append(rearrange(pixels, "f c h w -> f h w c").cpu())
    return torch.cat(parts).numpy()


def split_cells(latents: Tensor, grid: Grid) -> Tensor:
    """A grid's latents (..., C, H, W) → its frames' (..., F, C, h, w), in frame order."""
    boxes = [box.slices for box in grid.boxes("latent")]
    return torch.stack([latents[..., rows, cols] for rows, cols in boxes], dim=-4)


def join_cells(frames: Tensor, grid: Grid) -> Tensor:
    """Frames' latents (..., F, C, h, w) → the grid's (..., C, H, W); undoes `split_cells`."""
    width, height = grid.size("latent")
    joined = frames.new_empty((*frames.shape[:-4], frames.shape[-3], height, width))
    for frame, box in enumerate(grid.boxes("latent")):
        rows, cols = box.slices
        joined[..., rows, cols] = frames[..., frame, :, :, :]
    return joined


def patchify(latents: Tensor) -> Tensor:
    """(B, C, H, W) → tokens (B, H/2 * W/2, 4C), FLUX's own 2x2 latent packing."""
    return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


def unpatchify(tokens: Tensor, *, height: int, width: int) -> Tensor:
    """Tokens (B, N, 4C) → (B, C, height, width) in latent units; undoes `patchify`."""
    return rearrange(
        tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=height // 2, w=width // 2, p=2, q=2
    )


def image_ids(*, height: int, width: int, device: torch.device) -> Tensor:
    """(N, 3) rotary positions (0, row, col) of the tokens of a (height, width) latent image."""
    rows = torch.arange(height // 2, device=device)
    cols = torch.arange(width // 2, device=device)
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
    batch, _, height, width = noisy.shape
    scale = None
    if unwrap(transformer).config.guidance_embeds:
        scale = torch.full((batch,), guidance, device=noisy.device, dtype=torch.float32)
    tokens = transformer(
        hidden_states=patchify(noisy).to(prompt.embeds.dtype),
        encoder_hidden_states=prompt.embeds,
        pooled_projections=prompt.pooled,
        timestep=sigma.to(prompt.embeds.dtype),  # the transformer multiplies by 1000 itself
        img_ids=image_ids(height=height, width=width, device=noisy.device),
        txt_ids=torch.zeros(prompt.embeds.shape[1], 3, device=noisy.device),
        guidance=scale,
        return_dict=False,
    )[0]
    return unpatchify(tokens.to(noisy.dtype), height=height, width=width)


def unwrap(model: Any) -> Any:
    """The model inside a DistributedDataParallel, or the model itself."""
    return getattr(model, "module", model)
