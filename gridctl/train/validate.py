"""Validation: the losses on val/ at fixed noise, by noise level."""

from __future__ import annotations

from typing import Any

import torch

from gridctl.diffusion.flow import velocity
from gridctl.train.batch import draw_grids
from gridctl.train.loss import flow_losses
from gridctl.train.setup import Run

SIGMAS = (0.125, 0.375, 0.625, 0.875)  # the middles of four bands
_STEP = 2**31  # no step of training draws the same noise


@torch.inference_mode()
def validate(run: Run) -> dict[str, Any]:
    """The mean loss over validation grids and sigmas, and base and temporal loss at each sigma.

    Nothing is random: grids, captions, noise and sigmas are the same each time, so that two
    results differ by what was learned between them. Empty without validation grids.
    """
    if not run.setup.validation:
        return {}
    settings, stage = run.profile.train, run.stages[-1]
    sums = torch.zeros(len(SIGMAS), 2, device=run.device)
    slots = list(enumerate(run.setup.validation))
    for first in range(0, len(slots), stage.batch_size):
        some = slots[first : first + stage.batch_size]
        batch = draw_grids(
            run, some, _STEP, grid=stage.grid, logit_mean=stage.logit_mean, plain=True
        )
        target = velocity(batch.clean, batch.noise)
        for index, sigma in enumerate(SIGMAS):
            predicted = batch.at(sigma).predict(run.transformer, autocast=run.autocast)
            losses = flow_losses(predicted, target, stage.grid, row_wraps=settings.row_wraps)
            sums[index] += torch.stack(losses, dim=1).sum(dim=0)
    means = (sums / len(slots)).tolist()
    base = sum(mean[0] for mean in means) / len(means)
    temporal = sum(mean[1] for mean in means) / len(means)
    return {
        "validation": settings.base_weight * base + settings.temporal_weight * temporal,
        "validation_bands": [
            {"sigma": sigma, "base": mean[0], "temporal": mean[1]}
            for sigma, mean in zip(SIGMAS, means, strict=True)
        ],
    }
