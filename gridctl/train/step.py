"""One optimizer step: the losses, their gradients, the update."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import velocity
from gridctl.geometry import Grid
from gridctl.lora.adapters import lora_tensors
from gridctl.models.transformer import unwrap
from gridctl.train.batch import Slots, draw_grids, draw_single_frames, share, slot_samples
from gridctl.train.data import Stage, stage_at
from gridctl.train.setup import Run


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """An optimizer step; `losses` (3,) are the base, temporal and preserve loss of this process.

    The tensors are still on the device: reading one waits for it.
    """

    losses: Tensor
    grad_norm: Tensor
    learning_rate: float
    temporal_weight: float


def take_step(run: Run, step: int) -> StepResult:
    """Train on the slots of `step`, counted from 0."""
    settings = run.profile.train
    stage_index, stage_step = stage_at(run.stages, step)
    stage = run.stages[stage_index]
    weight = stage.temporal_weight(stage_step)
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    learning_rate = stage.learning_rate(stage_step) * warm
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate
    chosen = slot_samples(
        run.samples[stage_index],
        seed=settings.seed,
        first=stage_step * stage.slots,
        count=stage.slots,
    )
    processes = run.accelerator.num_processes
    mine = share(chosen, process=run.accelerator.process_index, processes=processes)
    sums = torch.zeros(3, device=run.device)
    for first in range(0, len(mine), stage.batch_size):
        slots = mine[first : first + stage.batch_size]
        base, temporal = grid_losses(run, slots, step, stage)
        losses = settings.base_weight * base + weight * temporal
        preserve = torch.zeros_like(base)
        if settings.preserve_weight:
            preserve = preserve_losses(run, slots, step, stage)
            losses = losses + settings.preserve_weight * preserve
        is_last = first + stage.batch_size >= len(mine)
        # With several processes, gradients are exchanged only in the last pass of a step.
        with nullcontext() if is_last else run.accelerator.no_sync(run.transformer):
            run.accelerator.backward(losses.sum() / len(mine))
        sums += torch.stack([base, temporal, preserve]).detach().sum(dim=1) / len(mine)
    norm = torch.nn.utils.clip_grad_norm_(run.parameters, settings.max_grad_norm)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.ema:
        for name, tensor in lora_tensors(unwrap(run.transformer)).items():
            run.ema[name].lerp_(tensor.detach(), 1 - settings.ema)
    return StepResult(
        losses=sums,
        grad_norm=norm,
        learning_rate=learning_rate,
        temporal_weight=weight,
    )


def grid_losses(run: Run, slots: Slots, step: int, stage: Stage) -> tuple[Tensor, Tensor]:
    """The base and temporal losses of some slots of a step, (B,) each."""
    batch = draw_grids(run, slots, step, grid=stage.grid, logit_mean=stage.logit_mean)
    predicted = batch.predict(run.transformer, autocast=run.autocast)
    return flow_losses(
        predicted,
        velocity(batch.clean, batch.noise),
        stage.grid,
        row_wraps=run.profile.train.row_wraps,
        kept=batch.kept,
    )


def preserve_losses(run: Run, slots: Slots, step: int, stage: Stage) -> Tensor:
    """The change that the adapter makes to a single frame of each slot, (B,).

    The mean squared difference between the velocities with and without the adapter, as in
    Learning without Forgetting (arXiv 1606.09282): training on grids must not change how a single
    image looks.
    """
    logit_mean = run.profile.train.logit_mean
    batch = draw_single_frames(run, slots, step, grid=stage.grid, logit_mean=logit_mean)
    transformer = unwrap(run.transformer)
    transformer.disable_adapters()
    with torch.no_grad():
        of_base = batch.predict(run.transformer, autocast=run.autocast)
    transformer.enable_adapters()
    predicted = batch.predict(run.transformer, autocast=run.autocast)
    return (predicted - of_base).float().square().mean(dim=(1, 2, 3))


def flow_losses(
    predicted: Tensor,
    target: Tensor,
    grid: Grid,
    *,
    row_wraps: bool = True,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The base and temporal loss of each sample, (B,) each.

    `predicted` and `target` are velocities v and u of grids, (B, C, H, W). The base loss is the
    mean of |v - u|^2. The temporal loss is L_flow of GRID (arXiv 2412.10718): the mean over
    consecutive frames of |D(v - u)|^2, with D the difference of neighbouring cells in frame
    order. It is twice the base loss if errors are independent between cells, and 0 for an error
    shared by all frames. Without `row_wraps` the steps from one row to the next do not count, as
    in the authors' code.

    `kept` (B, F) marks frames that the model was given clean. It does not predict them: their
    error is zero, and the means are over the other frames, and over the steps with at least one
    of those. A step from a kept frame thus asks its neighbour to continue it.
    """
    error = split_cells((predicted - target).float(), grid)  # (B, F, C, h, w)
    free = error.new_ones(error.shape[:2]) if kept is None else (~kept).to(error)
    error = error * free[:, :, None, None, None]
    base = _masked_mean(error.square().mean(dim=(2, 3, 4)), free)
    steps = (error[:, 1:] - error[:, :-1]).square().mean(dim=(2, 3, 4))  # (B, F-1)
    counted = torch.maximum(free[:, 1:], free[:, :-1])
    if not row_wraps:
        within = [k for k in range(grid.num_frames - 1) if not grid.is_row_wrap(k)]
        steps, counted = steps[:, within], counted[:, within]
    return base, _masked_mean(steps, counted)


def _masked_mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of each row of `values` (B, N) where `counted` is 1; 0 where it never is."""
    return (values * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
