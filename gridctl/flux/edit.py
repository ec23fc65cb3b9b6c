"""FlowEdit (arXiv 2412.08629): change what a prompt says of an image, and keep the rest.

The image is carried along the difference of two velocities, that of the target prompt and that
of the source prompt, so nothing has to be inverted.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from gridctl.flux.flow import add_noise
from gridctl.flux.sampler import Denoiser, OnStep


@torch.inference_mode()
def flow_edit(
    latents: Tensor,
    *,
    source: Denoiser,
    target: Denoiser,
    strength: float,
    generator: torch.Generator,
    fixed: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents (1, C, H, W) of what `source`'s prompt describes → of what `target`'s describes.

    `strength` in 0...1 is the share of the sampling steps that are run, the last ones. Each
    draws fresh noise from `generator`, on the CPU. `fixed` (1, C, H, W) holds parts that are
    edited already, and NaN elsewhere.
    """
    sigmas = list(target.sampling.sigmas)
    steps = round(strength * (len(sigmas) - 1))
    sigmas = sigmas[len(sigmas) - 1 - steps :]
    edited = latents if fixed is None else torch.where(fixed.isnan(), latents, fixed)
    for step, (sigma, next_sigma) in enumerate(pairwise(sigmas)):
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy_source = add_noise(latents, noise, sigma)
        noisy_target = edited + noisy_source - latents
        difference = target(noisy_target, sigma) - source(noisy_source, sigma)
        edited = edited + (next_sigma - sigma) * difference
        if fixed is not None:
            edited = torch.where(fixed.isnan(), edited, fixed)
        if on_step:
            on_step(step + 1, steps)
    return edited
