"""A batch: the grids of some slots of a step, with noise, sigmas and prompts.

Everything random in it is a pure function of (seed, step, slot), so neither a restart nor the
number of processes changes a run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gridctl.diffusion.flow import add_noise, draw_sigmas
from gridctl.geometry import Grid
from gridctl.models.latents import Conditioning, predict_velocity, split_cells
from gridctl.train.data import Sample
from gridctl.train.keep import draw_kept, kept_map
from gridctl.train.order import mix_seed
from gridctl.train.setup import Run

GUIDANCE = 1.0  # FLUX.1-dev is trained at 1 and sampled at 3.5
# A slot's random numbers come in streams, so that a new use of chance leaves the others alone.
_FRAME_STREAM, _KEEP_STREAM, _CAPTION_STREAM = 1, 2, 3

Slots = list[tuple[int, Sample]]
_Row = tuple[Tensor, Tensor, Tensor, Conditioning]  # of one slot; the sigma is (1,)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Latents and noise (B, C, H, W), sigmas (B,) and B prompts.

    `kept` (B, F) marks the frames of `grid` that are given clean; None if there are none.
    """

    grid: Grid
    clean: Tensor
    noise: Tensor
    sigma: Tensor
    prompt: Conditioning
    kept: Tensor | None = None

    def predict(self, transformer: Any, *, autocast: bool) -> Tensor:
        """The velocities that the transformer predicts, (B, C, H, W)."""
        noisy = add_noise(self.clean, self.noise, self.sigma[:, None, None, None])
        if self.kept is not None:
            noisy = torch.where(kept_map(self.kept, self.grid), self.clean, noisy)
        with torch.autocast(self.clean.device.type, torch.bfloat16, enabled=autocast):
            return predict_velocity(
                transformer,
                noisy,
                sigma=self.sigma,
                prompt=self.prompt,
                guidance=GUIDANCE,
            )

    def at(self, sigma: float) -> Batch:
        """The same with every sample at `sigma`."""
        return replace(self, sigma=torch.full_like(self.sigma, sigma))


def draw_grids(
    run: Run, slots: Slots, step: int, *, grid: Grid, logit_mean: float, plain: bool = False
) -> Batch:
    """Whole grids with their captions; `plain` drops no caption and keeps no frame clean."""
    settings = run.profile.train
    rows: list[_Row] = []
    for slot, sample in slots:
        generator = _generator(run, step, slot)
        clean = run.cache.latents(sample, grid)
        noise = torch.randn(clean.shape, generator=generator)
        sigma = draw_sigmas(
            1, mu=run.mu(grid), mean=logit_mean, std=settings.logit_std, generator=generator
        )
        dropped = float(torch.rand((), generator=generator)) < settings.caption_dropout
        caption = sample.captions[_caption_index(run, step, slot, sample)]
        text = "" if dropped and not plain else caption
        rows.append((clean, noise, sigma, run.cache.prompt(text)))
    kept = None
    if settings.keep and not plain:
        kept = torch.stack(
            [
                draw_kept(
                    settings.keep,
                    settings.keep_patterns,
                    grid,
                    _generator(run, step, slot, _KEEP_STREAM),
                )
                for slot, _ in slots
            ]
        ).to(run.device)
    return _stack(run, rows, grid, kept=kept)


def draw_single_frames(
    run: Run, slots: Slots, step: int, *, grid: Grid, logit_mean: float
) -> Batch:
    """A random frame of each grid, with what its caption says about a single frame."""
    settings = run.profile.train
    single = Grid(rows=1, cols=1, cell=grid.cell)
    rows: list[_Row] = []
    for slot, sample in slots:
        generator = _generator(run, step, slot, _FRAME_STREAM)
        frame = int(torch.randint(grid.num_frames, (), generator=generator))
        clean = split_cells(run.cache.latents(sample, grid), grid)[frame]
        noise = torch.randn(clean.shape, generator=generator)
        sigma = draw_sigmas(
            1,
            mu=run.mu(single, capped=False),
            mean=logit_mean,
            std=settings.logit_std,
            generator=generator,
        )
        dropped = float(torch.rand((), generator=generator)) < settings.caption_dropout
        content = sample.contents[_caption_index(run, step, slot, sample)]
        rows.append((clean, noise, sigma, run.cache.prompt("" if dropped else content)))
    return _stack(run, rows, single)


def _stack(run: Run, rows: list[_Row], grid: Grid, *, kept: Tensor | None = None) -> Batch:
    clean, noise, sigma, prompts = zip(*rows, strict=True)
    return Batch(
        grid=grid,
        clean=torch.stack(clean).to(run.device),
        noise=torch.stack(noise).to(run.device),
        sigma=torch.cat(sigma).to(run.device),
        prompt=Conditioning.cat(prompts).to(run.device),
        kept=kept,
    )


def _caption_index(run: Run, step: int, slot: int, sample: Sample) -> int:
    """Which of a sample's captions a slot has, each as likely as the others."""
    if len(sample.captions) == 1:
        return 0
    generator = _generator(run, step, slot, _CAPTION_STREAM)
    return int(torch.randint(len(sample.captions), (), generator=generator))


def _generator(run: Run, step: int, slot: int, *stream: int) -> torch.Generator:
    seed = run.profile.train.seed
    return torch.Generator().manual_seed(mix_seed(seed, step, slot, *stream))
