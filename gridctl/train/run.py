"""`train`: captioned grids → a LoRA adapter. The loop, top to bottom."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridctl.flux.adapter import lora_tensors
from gridctl.flux.conditioning import Conditioning
from gridctl.flux.flow import add_noise, draw_sigmas, velocity
from gridctl.flux.latents import predict_velocity, split_cells, unwrap
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.train.data import Sample, mix_seed, slot_samples
from gridctl.train.keep import draw_kept, kept_map
from gridctl.train.loss import flow_losses
from gridctl.train.setup import DEFAULT_OUTPUT, Run, refuse_schnell, set_up
from gridctl.train.stages import stage_at
from gridctl.train.state import export_run, forget, resume, save_run

GUIDANCE = 1.0  # FLUX.1-dev is trained at 1 and sampled at 3.5
_KEEP_STREAM = 2  # of a slot's random numbers
_VALIDATION_STEP = 2**31  # no step of training draws the same noise


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run has made; `resumed_at` is the step it went on from (0 for a new one)."""

    adapter: Path
    run_folder: Path
    steps: int
    resumed_at: int
    loss: float | None


def train(
    profile: Profile, *, force: bool = False, progress: Progress | None = None
) -> TrainResult:
    """Train the profile's base on its data, or go on where the last run stopped.

    The run's checkpoints and `log.jsonl` lie in a folder beside the adapter. SIGINT and
    SIGTERM end it after the step at work, with a checkpoint.

    Raises UsageError for a profile that cannot be trained, InputError for unusable data or
    an adapter that exists already; KeyboardInterrupt after a signal.
    """
    progress = progress or silent
    refuse_schnell(profile)
    run = set_up(profile, force=force, progress=progress)
    if force and run.accelerator.is_main_process:
        forget(run)
    run.accelerator.wait_for_everyone()
    start = resume(run)
    adapter = profile.train.output or DEFAULT_OUTPUT
    with _stop_on_signal() as stopped:
        for step in range(start, run.total_steps):
            done = step + 1
            due = done % profile.train.checkpoint_every == 0 or done == run.total_steps
            _step(run, step, log=due or step == 0 or done % profile.train.log_every == 0)
            progress(done, run.total_steps, f"loss {run.log[-1]['loss']:.4f}")
            if due:
                _validate(run)
            stop = stopped()  # asked once: what comes during the checkpoint ends the next step
            if (due or stop) and run.accelerator.is_main_process:
                save_run(run, done)
            if stop and done < run.total_steps:
                raise KeyboardInterrupt
    if run.accelerator.is_main_process:
        export_run(run, adapter)
    loss = run.log[-1]["loss"] if run.log else None
    return TrainResult(
        adapter=adapter, run_folder=run.folder, steps=run.total_steps, resumed_at=start, loss=loss
    )


def _step(run: Run, step: int, *, log: bool) -> None:
    """One optimizer step."""
    settings = run.profile.train
    started = time.monotonic()
    stage_index, stage_step = stage_at(run.stages, step)
    stage = run.stages[stage_index]
    weight = stage.temporal_weight(stage_step)
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    learning_rate = stage.learning_rate(stage_step) * warm
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate
    slots = settings.batch_size * settings.accumulate
    chosen = slot_samples(
        run.samples[stage_index], seed=settings.seed, first=stage_step * slots, count=slots
    )
    rank, world = run.accelerator.process_index, run.accelerator.num_processes
    mine = list(enumerate(chosen))[rank::world]
    sums = torch.zeros(3, device=run.accelerator.device)
    for first in range(0, len(mine), settings.batch_size):
        part = mine[first : first + settings.batch_size]
        base, temporal = _losses(run, part, step, logit_mean=stage.logit_mean)
        losses = settings.base_weight * base + weight * temporal
        preserve = torch.zeros_like(base)
        if settings.preserve_weight:
            preserve = _preserve_losses(run, part, step, logit_mean=settings.logit_mean)
            losses = losses + settings.preserve_weight * preserve
        is_last = first + settings.batch_size >= len(mine)
        # With several processes, gradients are exchanged only in the last pass of a step.
        with nullcontext() if is_last else run.accelerator.no_sync(run.transformer):
            run.accelerator.backward(losses.sum() / len(mine))
        parts = torch.stack([base, temporal, preserve])
        sums += parts.detach().sum(dim=1) / len(mine)
    torch.nn.utils.clip_grad_norm_(run.parameters, settings.max_grad_norm)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.ema:
        for name, tensor in lora_tensors(unwrap(run.transformer)).items():
            run.ema[name].lerp_(tensor.detach(), 1 - settings.ema)
    if log:
        # A sync point.
        base_loss, temporal_loss, preserve_loss = run.accelerator.reduce(sums, "mean").tolist()
        run.log.append(
            {
                "step": step + 1,
                "loss": settings.base_weight * base_loss
                + weight * temporal_loss
                + settings.preserve_weight * preserve_loss,
                "base": base_loss,
                "temporal": temporal_loss,
                "preserve": preserve_loss,
                "ratio": temporal_loss / max(base_loss, 1e-12),
                "learning_rate": learning_rate,
                "seconds": time.monotonic() - started,
            }
        )


def _losses(
    run: Run, part: list[tuple[int, Sample]], step: int, *, logit_mean: float
) -> tuple[Tensor, Tensor]:
    """(base, temporal) losses (B,) of some slots of a step."""
    batch = _draw(run, part, step, logit_mean=logit_mean)
    predicted = batch.predict(run)
    target = velocity(batch.clean, batch.noise)
    return flow_losses(
        predicted, target, run.grid, row_wraps=run.profile.train.row_wraps, kept=batch.kept
    )


def _preserve_losses(
    run: Run, part: list[tuple[int, Sample]], step: int, *, logit_mean: float
) -> Tensor:
    """(B,) How far the adapter leads from the base on one frame of each slot, seen by itself.

    The mean squared difference of the velocities, as in Learning without Forgetting
    (arXiv 1606.09282): what a single image is, the grids' training must not change.
    """
    batch = _draw(run, part, step, logit_mean=logit_mean, single=True)
    transformer = unwrap(run.transformer)
    transformer.disable_adapters()
    with torch.no_grad():
        of_base = batch.predict(run)
    transformer.enable_adapters()
    return (batch.predict(run) - of_base).float().square().mean(dim=(1, 2, 3))


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Latents and noise (B, C, H, W), sigmas (B,) and the encoded prompts.

    `kept` (B, F) marks the frames that are given clean; None if there are none.
    """

    clean: Tensor
    noise: Tensor
    sigma: Tensor
    prompt: Conditioning
    kept: Tensor | None = None

    def predict(self, run: Run) -> Tensor:
        """The velocities that the transformer gives for it, (B, C, H, W)."""
        noisy = add_noise(self.clean, self.noise, self.sigma[:, None, None, None])
        if self.kept is not None:
            noisy = torch.where(kept_map(self.kept, run.grid), self.clean, noisy)
        with torch.autocast(self.clean.device.type, torch.bfloat16, enabled=run.autocast):
            return predict_velocity(
                run.transformer,
                noisy,
                sigma=self.sigma,
                prompt=self.prompt,
                guidance=GUIDANCE,
            )


def _draw(
    run: Run,
    part: list[tuple[int, Sample]],
    step: int,
    *,
    logit_mean: float,
    single: bool = False,
) -> _Batch:
    """Some slots' grids with their captions; or, `single`, a frame of each with its content."""
    settings = run.profile.train
    rows, prompts = [], []
    for slot, sample in part:
        generator = torch.Generator().manual_seed(
            mix_seed(settings.seed, step, slot, *[1] * single)
        )
        clean, caption, mu = run.cache.latents(sample), sample.caption, run.mu
        if single:
            frame = int(torch.randint(run.grid.num_frames, (), generator=generator))
            clean, caption, mu = split_cells(clean, run.grid)[frame], sample.content, run.frame_mu
        noise = torch.randn(clean.shape, generator=generator)
        sigma = draw_sigmas(1, mu=mu, mean=logit_mean, std=settings.logit_std, generator=generator)
        dropped = float(torch.rand((), generator=generator)) < settings.caption_dropout
        rows.append((clean, noise, sigma[0]))
        prompts.append(run.cache.prompt("" if dropped else caption))
    stacked = (torch.stack(column).to(run.accelerator.device) for column in zip(*rows, strict=True))
    clean, noise, sigma = stacked
    prompt = Conditioning.cat(prompts).to(run.accelerator.device)
    kept = None
    if settings.keep and not single:
        kept = torch.stack([_draw_kept(run, step, slot) for slot, _ in part]).to(clean.device)
    return _Batch(clean=clean, noise=noise, sigma=sigma, prompt=prompt, kept=kept)


def _draw_kept(run: Run, step: int, slot: int) -> Tensor:
    """(F,) The clean frames of a slot, by random numbers that nothing else uses."""
    settings = run.profile.train
    generator = torch.Generator().manual_seed(mix_seed(settings.seed, step, slot, _KEEP_STREAM))
    return draw_kept(settings.keep, settings.keep_patterns, run.grid, generator)


def _validate(run: Run) -> None:
    """Log the mean loss on val/, with noise of its own that never changes."""
    if not run.validation:
        return
    settings = run.profile.train
    losses = []
    with torch.inference_mode():
        for slot, sample in enumerate(run.validation):
            base, temporal = _losses(
                run, [(slot, sample)], _VALIDATION_STEP, logit_mean=settings.logit_mean
            )
            losses.append(float(settings.base_weight * base + settings.temporal_weight * temporal))
    run.log[-1]["validation"] = statistics.fmean(losses)


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yield a question: has SIGINT or SIGTERM come? A second one is as abrupt as ever."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def catch(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(number, previous[number])

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            previous[number] = signal.signal(number, catch)
    except ValueError:  # not the main thread, as in some notebooks: nothing to catch
        pass
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
