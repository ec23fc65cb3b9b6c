"""The mathematics of rectified flow: pure functions on tensors, each a line or three.

Conventions of FLUX.1: sigma 1 is noise and 0 is the image, velocity points from image to
noise, timestep = 1000 * sigma.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def velocity(latents: Tensor, noise: Tensor) -> Tensor:
    """The target of flow matching, u = e - z0."""
    return noise - latents


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """z_s = (1 - s) z0 + s e; `sigma` broadcasts."""
    return (1 - sigma) * latents + sigma * noise


def euler_step(latents: Tensor, velocity: Tensor, sigma: float, next_sigma: float) -> Tensor:
    """One step along the velocity, from `sigma` to `next_sigma`."""
    return latents + (next_sigma - sigma) * velocity


def renoise(latents: Tensor, noise: Tensor, sigma: float, higher: float) -> Tensor:
    """Latents at `sigma` → at a `higher` one, by fresh noise.

    a z_s + sqrt(h^2 - a^2 s^2) e with a = (1 - h) / (1 - s): the image's share falls to 1 - h,
    and the noise, independent of the old one, fills up to h.
    """
    share = (1 - higher) / (1 - sigma)
    return share * latents + math.sqrt(higher**2 - (share * sigma) ** 2) * noise


def guide(velocity: Tensor, empty: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): on from the empty prompt's velocity."""
    return empty + scale * (velocity - empty)


def shift_sigma(sigma: Tensor, mu: float) -> Tensor:
    """FLUX's time shift, which moves sigmas in (0, 1] towards 1 as `mu` grows.

    exp(mu) / (exp(mu) + 1/sigma - 1), written so that sigma 0 is allowed. A scheduler with
    a fixed `shift` is the same with mu = log(shift).
    """
    shift = math.exp(mu)
    return shift * sigma / (1 + (shift - 1) * sigma)


def schedule(steps: int, mu: float) -> list[float]:
    """`steps` + 1 sigmas from 1 to 0, shifted: those of diffusers' FluxPipeline."""
    sigmas = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    return [*shift_sigma(sigmas, mu).tolist(), 0.0]


def draw_sigmas(
    count: int, *, mu: float, mean: float, std: float, generator: torch.Generator
) -> Tensor:
    """(count,) sigmas for training: logit-normal, then shifted as the sampler's are."""
    normal = torch.randn(count, generator=generator) * std + mean
    return shift_sigma(torch.sigmoid(normal), mu)


def default_mu(config: Mapping[str, Any], num_tokens: int) -> float:
    """mu for an image of `num_tokens` tokens, by the config of diffusers' scheduler.

    FLUX.1-dev's grows in a straight line and is extrapolated past 4,096 tokens: 1.15 at
    1024x1024, 1.50 at 1536x1024, 3.23 at 2048x2048, where 20 steps then have none below
    sigma 0.5. A scheduler with a fixed shift (schnell) has one mu.
    """
    if not config.get("use_dynamic_shifting"):
        return math.log(config.get("shift", 1.0))
    base, top = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (top - base)
    return float(config["base_shift"] + slope * (num_tokens - base))
