"""FlowEdit (arXiv 2412.08629): change what a prompt says of an image, and keep the rest.

The image is carried along the difference of two velocities, that of the target prompt and that
of the source prompt, so nothing has to be inverted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gridctl.diffusion.cells import cell_map
from gridctl.diffusion.flow import add_noise, euler_step, renoise, schedule
from gridctl.diffusion.plan import GENERATE, Plan
from gridctl.errors import UsageError
from gridctl.profile import GenerateSection

FAST_STEPS = 0.6  # share of the steps that fast sampling takes where steps draw fresh noise

# (noisy latents (1, C, H, W), their sigma, tokens (1, 1, H, W) that are clean) → their velocity
Denoise = Callable[[Tensor, float, Tensor | None], Tensor]
DrawNoise = Callable[[], Tensor]  # fresh noise (1, C, H, W) at each call
OnStep = Callable[[int, int], None]


def num_steps(settings: GenerateSection) -> int:
    """How many steps a grid takes.

    With generate.fast, a sampler that draws fresh noise takes fewer; one that does not skips
    blocks instead (`cache_first_block`).
    """
    if settings.fast and settings.stochastic_min_sigma < 1:
        return max(1, round(FAST_STEPS * settings.steps))
    return settings.steps


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample; the profile's [generate] says what each value is good for.

    `sigmas` fall from 1 to 0. Steps above `stochastic_min_sigma` add fresh noise to the
    predicted image, as diffusers' FlowMatchEulerDiscreteScheduler does with
    `stochastic_sampling`, so that what an earlier step got wrong need not stay. At or below
    `average_max_sigma` they add it to the mean, half and half, of that image and the last such
    mean, in which errors that come with one step's noise shrink.

    `keep_clean` gives the transformer known frames without noise until the plan releases them,
    for adapters that were trained so; else they are re-noised to each step's sigma. `resample`
    repeats each step that often: it goes back up by fresh noise and down again, so that what is
    drawn meets the kept frames (time travel, RePaint, arXiv 2201.09865).
    """

    sigmas: tuple[float, ...]
    stochastic_min_sigma: float = 1.0
    average_max_sigma: float = 0.0
    keep_clean: bool = False
    resample: int = 1

    @classmethod
    def of(cls, settings: GenerateSection, mu: float, *, keep_clean: bool = False) -> Sampling:
        """A profile's settings, with the shift of the sigmas for the image's size."""
        return cls(
            sigmas=tuple(schedule(num_steps(settings), mu)),
            stochastic_min_sigma=settings.stochastic_min_sigma,
            average_max_sigma=settings.average_max_sigma,
            keep_clean=keep_clean,
            resample=settings.resample,
        )


@torch.inference_mode()
def sample(
    denoise: Denoise,
    plan: Plan,
    draw_noise: DrawNoise,
    sampling: Sampling,
    *,
    reference: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Carry out a plan; returns latents of the shape that `draw_noise` gives.

    `reference` (1, C, H, W) holds the latents of known frames, which follow it until the plan
    releases them. A plan that releases none above some sigma starts there. Noise is drawn for
    the start, and again by stochastic and repeated steps.

    Raises UsageError if the plan needs a reference and has none.
    """
    if plan.needs_reference and reference is None:
        raise UsageError("the plan keeps or changes frames; give the reference they come from.")
    noise = draw_noise()
    known = noise if reference is None else reference
    release = cell_map(torch.tensor([plan.release], device=noise.device), plan.grid)
    average: Tensor | None = None
    start, sigmas = max(plan.release), plan_sigmas(plan, sampling.sigmas)
    latents = noise if start >= GENERATE else add_noise(known, noise, start)
    steps = (len(sigmas) - 1) * sampling.resample
    last_sigma = GENERATE
    for step in range(steps):
        sigma, next_sigma = sigmas[step // sampling.resample : step // sampling.resample + 2]
        follows, noisy = release < sigma, add_noise(known, noise, sigma)
        if sampling.keep_clean:  # a frame that is released now has been clean until now
            latents = torch.where(release < last_sigma, noisy, latents)
        latents = torch.where(follows, known if sampling.keep_clean else noisy, latents)
        last_sigma = sigma
        predicted = denoise(latents, sigma, follows if sampling.keep_clean else None)
        if sigma > sampling.stochastic_min_sigma:
            image = euler_step(latents, predicted, sigma, 0.0)
            if sampling.keep_clean:
                image = torch.where(follows, known, image)
            if sigma <= sampling.average_max_sigma:
                if average is not None:  # a frame that follows its reference is never averaged
                    image = torch.where(follows, image, (average + image) / 2)
                average = image
            noise = draw_noise()
            latents = add_noise(image, noise, next_sigma)
        else:
            latents = euler_step(latents, predicted, sigma, next_sigma)
        if (step + 1) % sampling.resample:
            latents = renoise(latents, draw_noise(), next_sigma, sigma)
        if on_step:
            on_step(step + 1, steps)
    return torch.where(release < last_sigma, known, latents)  # what was never released


def plan_sigmas(plan: Plan, sigmas: Sequence[float]) -> list[float]:
    """The sigmas that a plan is carried out with: all of them if it draws a frame from noise.

    Otherwise its largest strength and the sigmas below it.
    """
    start = max(plan.release)
    if start >= GENERATE:
        return list(sigmas)
    return [start, *(sigma for sigma in sigmas if sigma < start)]


def edit_sigmas(strength: float, sigmas: Sequence[float]) -> list[float]:
    """The sigmas of the last steps, of which an edit of this strength takes a share."""
    steps = round(strength * (len(sigmas) - 1))
    return list(sigmas[len(sigmas) - 1 - steps :])


@torch.inference_mode()
def flow_edit(
    latents: Tensor,
    draw_noise: DrawNoise,
    sigmas: Sequence[float],
    *,
    source: Denoise,
    target: Denoise,
    strength: float,
    fixed: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents (1, C, H, W) of what `source`'s prompt describes → of what `target`'s describes.

    `strength` in 0...1 is the share of the sampling steps that are run, the last ones. Each
    draws fresh noise. `fixed` (1, C, H, W) holds parts that are edited already, and NaN elsewhere.
    """
    sigmas = edit_sigmas(strength, sigmas)
    steps = len(sigmas) - 1
    edited = latents if fixed is None else torch.where(fixed.isnan(), latents, fixed)
    for step, (sigma, next_sigma) in enumerate(pairwise(sigmas)):
        noisy_source = add_noise(latents, draw_noise(), sigma)
        noisy_target = edited + noisy_source - latents
        difference = target(noisy_target, sigma, None) - source(noisy_source, sigma, None)
        edited = edited + (next_sigma - sigma) * difference
        if fixed is not None:
            edited = torch.where(fixed.isnan(), edited, fixed)
        if on_step:
            on_step(step + 1, steps)
    return edited
