"""One sampler for every plan: Euler steps from noise to latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gridctl.errors import UsageError
from gridctl.flux.flow import add_noise, euler_step, guide
from gridctl.flux.latents import join_cells, predict_velocity
from gridctl.flux.plan import KEEP, Plan


def draw_noise(plan: Plan, channels: int, generator: torch.Generator) -> Tensor:
    """(1, C, H, W) by a generator of the CPU: a seed draws the same clip on every machine."""
    width, height = plan.grid.size("latent")
    return torch.randn(1, channels, height, width, generator=generator)


@torch.inference_mode()
def sample(
    transformer: Any,
    plan: Plan,
    *,
    noise: Tensor,
    sigmas: Sequence[float],
    embeds: Tensor,
    pooled: Tensor,
    guidance: float,
    empty: tuple[Tensor, Tensor] | None = None,
    true_cfg_scale: float = 1.0,
    true_cfg_max_sigma: float = 1.0,
    reference: Tensor | None = None,
    generator: torch.Generator | None = None,
    stochastic_min_sigma: float = 0.0,
    average_max_sigma: float = 0.0,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Carry out a plan: `noise` (1, C, H, W) → latents of the same shape.

    `sigmas` fall from 1 to 0. `empty` holds the empty prompt's embeds and pooled vector: with
    it, each step predicts twice, and is led away from it by `true_cfg_scale`, as diffusers'
    FluxPipeline does; steps above `true_cfg_max_sigma` are not led (arXiv 2404.07724).

    `reference` (1, C, H, W) holds the latents of known frames: each follows its reference,
    re-noised to the current sigma, until the plan releases it.

    With a `generator`, of the CPU, each step above `stochastic_min_sigma` predicts the image and
    covers it with noise drawn anew, as diffusers' FlowMatchEulerDiscreteScheduler does with
    `stochastic_sampling`: what an earlier step got wrong need not stay. At or below
    `average_max_sigma` it covers the mean, half and half, of that image and the last such mean,
    in which errors that come with one step's noise shrink.

    Raises UsageError if the plan needs a reference and has none.
    """
    if plan.needs_reference and reference is None:
        raise UsageError("the plan keeps or changes frames; give the reference they come from.")
    known = noise if reference is None else reference
    release = _release_map(plan, noise)
    latents = noise
    average: Tensor | None = None
    steps = len(sigmas) - 1
    for step, (sigma, next_sigma) in enumerate(pairwise(sigmas)):
        held = release < sigma
        latents = torch.where(held, add_noise(known, noise, sigma), latents)
        predict = partial(
            predict_velocity,
            transformer,
            latents,
            sigma=torch.full((1,), sigma, device=noise.device),
            guidance=guidance,
        )
        predicted = predict(embeds=embeds, pooled=pooled)
        if empty and sigma <= true_cfg_max_sigma:
            without = predict(embeds=empty[0], pooled=empty[1])
            predicted = guide(predicted, without, true_cfg_scale)
        if generator and sigma > stochastic_min_sigma:
            image = euler_step(latents, predicted, sigma, 0.0)
            if sigma <= average_max_sigma:
                if average is not None:  # a frame that is held has no past to be true to
                    image = torch.where(held, image, (average + image) / 2)
                average = image
            noise = torch.randn(noise.shape, generator=generator).to(noise)
            latents = add_noise(image, noise, next_sigma)
        else:
            latents = euler_step(latents, predicted, sigma, next_sigma)
        if on_step:
            on_step(step + 1, steps)
    return torch.where(release == KEEP, known, latents)


def _release_map(plan: Plan, like: Tensor) -> Tensor:
    """The plan's release sigmas over the latent image, (1, 1, H, W)."""
    width, height = plan.grid.cell_size("latent")
    release = torch.tensor(plan.release, device=like.device).reshape(1, -1, 1, 1, 1)
    return join_cells(release.expand(-1, -1, 1, height, width), plan.grid)
