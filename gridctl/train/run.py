"""`train`: captioned grids → a LoRA adapter."""

from __future__ import annotations

import hashlib
import json
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridctl.errors import InputError, UsageError
from gridctl.files import refuse_overwrite, write_text
from gridctl.flux.adapter import AdapterFacts, add_lora, lora_tensors, save_adapter
from gridctl.flux.base import BaseModel, open_base
from gridctl.flux.flow import add_noise, default_mu, draw_sigmas, velocity
from gridctl.flux.latents import predict_velocity, unwrap
from gridctl.geometry import Grid
from gridctl.media.grid_image import load_facts
from gridctl.profile import Profile, profile_toml
from gridctl.prompt import layout_prompt, layout_template
from gridctl.train.cache import Cache, Progress
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from gridctl.train.data import Sample, mix_seed, read_samples, slot_samples
from gridctl.train.loss import flow_losses
from gridctl.train.stages import Stage, resolve_stages, stage_at

DEFAULT_OUTPUT = Path("adapter.safetensors")
GUIDANCE = 1.0  # FLUX.1-dev is trained at 1 and sampled at 3.5
_VALIDATION_SAMPLES = 32


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run has made; `resumed_at` is the step it went on from (0 for a new one)."""

    adapter: Path
    run_folder: Path
    steps: int
    resumed_at: int
    loss: float | None


@dataclass(kw_only=True)
class _Run:
    """All that a step needs. Everything drawn by lot is a function of (seed, step, slot)."""

    profile: Profile
    grid: Grid
    folder: Path
    stages: list[Stage]
    samples: list[list[Sample]]  # one list per stage
    validation: list[Sample]
    cache: Cache
    mu: float
    accelerator: Any
    transformer: Any
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    fingerprint: str
    ema: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


def train(
    profile: Profile, *, force: bool = False, progress: Progress | None = None
) -> TrainResult:
    """Train the profile's base on its data, or go on where the last run stopped.

    The run's checkpoints and `log.jsonl` lie in a folder beside the adapter. SIGINT and
    SIGTERM end it after the step at work, with a checkpoint.

    Raises UsageError for a profile that cannot be trained, InputError for unusable data or
    an adapter that exists already; KeyboardInterrupt after a signal.
    """
    progress = progress or (lambda done, total, text: None)
    refuse_schnell(profile)
    run, base = _set_up(profile, force=force, progress=progress)
    start = _resume(run)
    adapter = profile.train.output or DEFAULT_OUTPUT
    with _stop_on_signal() as stopped:
        for step in range(start, run.total_steps):
            _step(run, step)
            done = step + 1
            progress(done, run.total_steps, _summary(run))
            due = done % profile.train.checkpoint_every == 0 or done == run.total_steps
            if due or stopped():
                _checkpoint(run, done)
            if stopped() and done < run.total_steps:
                raise KeyboardInterrupt
    if run.accelerator.is_main_process:
        _export(run, base, adapter)
    loss = run.log[-1]["loss"] if run.log else None
    return TrainResult(
        adapter=adapter, run_folder=run.folder, steps=run.total_steps, resumed_at=start, loss=loss
    )


def refuse_schnell(profile: Profile, base: BaseModel | None = None) -> None:
    """UsageError for a distilled base, unless the profile says it may be worn down."""
    distilled = base.is_distilled if base else "schnell" in profile.model.base.lower()
    if distilled and not profile.train.allow_distilled:
        raise UsageError(
            f"{profile.model.base} is distilled to a few steps, and training wears that down; "
            "train on FLUX.1-dev, or set train.allow_distilled = true."
        )


def _set_up(profile: Profile, *, force: bool, progress: Progress) -> tuple[_Run, BaseModel]:
    """Check everything that can be checked, fill the cache, then load the transformer."""
    from accelerate import Accelerator

    settings = profile.train
    grid = profile.grid.to_grid()
    stages = resolve_stages(settings)
    found = [read_samples(stage.data, grid) for stage in stages]
    samples, validation = [train for train, _ in found], [v for _, val in found for v in val]
    accelerator = Accelerator(cpu=profile.memory.device == "cpu")
    slots = settings.batch_size * settings.accumulate
    if slots % accelerator.num_processes:
        raise UsageError(
            f"a step of {slots} grids cannot be shared by {accelerator.num_processes} processes; "
            "set train.batch_size or train.accumulate to a multiple."
        )
    base = open_base(profile)
    refuse_schnell(profile, base)
    cache = Cache.of(base, grid, profile.model.text_tokens)
    everything = [sample for stage in samples for sample in stage] + validation
    fingerprint = _fingerprint(profile, cache, samples)
    folder = _run_folder(profile, fingerprint, force=force)
    validation = validation[:_VALIDATION_SAMPLES]
    captions = dict.fromkeys(
        [s.caption for s in everything] + [""] * bool(settings.caption_dropout)
    )
    if accelerator.is_main_process:
        cache.fill(
            base,
            everything,
            list(captions),
            text_tokens=profile.model.text_tokens,
            encode_batch=profile.memory.encode_batch,
            progress=progress,
        )
    accelerator.wait_for_everyone()
    transformer = base.load_transformer(training=True)
    if profile.memory.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    alpha = settings.lora_alpha or settings.rank
    parameters = add_lora(transformer, rank=settings.rank, alpha=alpha, seed=settings.seed)
    optimizer = _optimizer(profile, parameters)
    ema = {}
    if settings.ema:
        ema = {n: t.detach().clone() for n, t in lora_tensors(transformer).items()}
    run = _Run(
        profile=profile,
        grid=grid,
        folder=folder,
        stages=stages,
        samples=samples,
        validation=validation,
        cache=cache,
        mu=default_mu(base.scheduler_config, grid.num_tokens, max_mu=profile.generate.max_mu),
        accelerator=accelerator,
        transformer=accelerator.prepare(transformer.train()),
        parameters=parameters,
        optimizer=optimizer,
        fingerprint=fingerprint,
        ema=ema,
    )
    return run, base


def _step(run: _Run, step: int) -> None:
    """One optimizer step; logs every so often."""
    settings = run.profile.train
    started = time.monotonic()
    stage_index, stage_step = stage_at(run.stages, step)
    stage = run.stages[stage_index]
    weight = stage.temporal_weight(stage_step)
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    for group in run.optimizer.param_groups:
        group["lr"] = stage.learning_rate * warm
    slots = settings.batch_size * settings.accumulate
    chosen = slot_samples(
        run.samples[stage_index], seed=settings.seed, first=stage_step * slots, count=slots
    )
    rank, world = run.accelerator.process_index, run.accelerator.num_processes
    mine = list(enumerate(chosen))[rank::world]
    sums = torch.zeros(2, device=run.accelerator.device)
    for first in range(0, len(mine), settings.batch_size):
        part = mine[first : first + settings.batch_size]
        base, temporal = _losses(run, part, step)
        loss = (settings.base_weight * base + weight * temporal).sum() / len(mine)
        is_last = first + settings.batch_size >= len(mine)
        with _gradients_later(run) if not is_last else _nothing():
            run.accelerator.backward(loss)
        sums += torch.stack([base.detach().sum(), temporal.detach().sum()]) / len(mine)
    torch.nn.utils.clip_grad_norm_(run.parameters, settings.max_grad_norm)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.ema:
        for name, tensor in lora_tensors(unwrap(run.transformer)).items():
            run.ema[name].lerp_(tensor.detach(), 1 - settings.ema)
    if (step + 1) % settings.log_every == 0 or step == 0:
        base_loss, temporal_loss = run.accelerator.reduce(sums, "mean").tolist()  # a sync point
        run.log.append(
            {
                "step": step + 1,
                "loss": settings.base_weight * base_loss + weight * temporal_loss,
                "base": base_loss,
                "temporal": temporal_loss,
                "ratio": temporal_loss / max(base_loss, 1e-12),
                "learning_rate": stage.learning_rate * warm,
                "seconds": time.monotonic() - started,
            }
        )


def _losses(run: _Run, part: list[tuple[int, Sample]], step: int) -> tuple[Tensor, Tensor]:
    """(base, temporal) losses (B,) of some slots of a step."""
    settings = run.profile.train
    device = run.accelerator.device
    latents, noises, sigmas, embeds, pooled = [], [], [], [], []
    for slot, sample in part:
        generator = torch.Generator().manual_seed(mix_seed(settings.seed, step, slot))
        clean = run.cache.latents(sample)
        noises.append(torch.randn(clean.shape, generator=generator))
        sigmas.append(
            draw_sigmas(
                1, mu=run.mu, mean=settings.logit_mean, std=settings.logit_std, generator=generator
            )
        )
        dropped = float(torch.rand((), generator=generator)) < settings.caption_dropout
        prompt = run.cache.prompt("" if dropped else sample.caption)
        latents.append(clean)
        embeds.append(prompt[0])
        pooled.append(prompt[1])
    clean, noise = torch.stack(latents).to(device), torch.stack(noises).to(device)
    sigma = torch.cat(sigmas).to(device)
    predicted = predict_velocity(
        run.transformer,
        add_noise(clean, noise, sigma[:, None, None, None]),
        sigma=sigma,
        embeds=torch.stack(embeds).to(device),
        pooled=torch.stack(pooled).to(device),
        guidance=GUIDANCE,
    )
    target = velocity(clean, noise)
    return flow_losses(predicted, target, run.grid, row_wraps=settings.row_wraps)


def _validate(run: _Run) -> float | None:
    """The mean loss on val/ with noise of its own that never changes; None without val/."""
    if not run.validation:
        return None
    weight, temporal_weight = run.profile.train.base_weight, run.profile.train.temporal_weight
    losses = []
    with torch.inference_mode():
        for slot, sample in enumerate(run.validation):
            base, temporal = _losses(run, [(slot, sample)], step=2**31)
            losses.append(float(weight * base + temporal_weight * temporal))
    return statistics.fmean(losses)


def _resume(run: _Run) -> int:
    """Put back the newest checkpoint, if there is one; returns the step to go on from."""
    saved = list_checkpoints(run.folder)
    if not saved:
        return 0
    step, tensors, facts = read_checkpoint(saved[-1])
    parameters = lora_tensors(unwrap(run.transformer))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
        for name, shadow in run.ema.items():
            shadow.copy_(tensors[f"ema.{name}"])
    load_optimizer(run.optimizer, tensors)
    run.log = json.loads(facts["log"])
    return step


def _checkpoint(run: _Run, step: int) -> None:
    """Write weights, optimizer, average and log; the log is a file of its own as well."""
    loss = _validate(run)
    if loss is not None and run.log:
        run.log[-1]["validation"] = loss
    if not run.accelerator.is_main_process:
        return
    tensors = {
        **lora_tensors(unwrap(run.transformer)),
        **{f"ema.{name}": shadow for name, shadow in run.ema.items()},
        **optimizer_tensors(run.optimizer),
    }
    facts = {"fingerprint": run.fingerprint, "log": json.dumps(run.log)}
    keep = run.profile.train.keep_checkpoints
    write_checkpoint(run.folder, step, tensors, facts=facts, keep=keep)
    lines = "".join(json.dumps(entry) + "\n" for entry in run.log)
    write_text(run.folder / "log.jsonl", lines)


def _export(run: _Run, base: BaseModel, path: Path) -> None:
    """The adapter: of the average, if there is one."""
    settings = run.profile.train
    samples = [sample for stage in run.samples for sample in stage]
    template = layout_template(run.profile.caption.layout)
    opening = layout_prompt(run.grid, template)
    if not any(sample.caption.startswith(opening) for sample in samples):
        template = ""  # captions from elsewhere: prompts are taken as they are
    packed = [load_facts(sample.image) for sample in samples[:100]]
    known = [facts.fps for facts in packed if facts]
    header = AdapterFacts(
        grid=run.grid,
        layout=template,
        fps=statistics.median(known) if known else run.profile.generate.fps,
        base=base.name,
        steps=run.total_steps,
        profile=profile_toml(run.profile),
    )
    scale = (settings.lora_alpha or settings.rank) / settings.rank
    tensors = run.ema or lora_tensors(unwrap(run.transformer))
    save_adapter(path, tensors, header, scale=scale, force=True)


def _run_folder(profile: Profile, fingerprint: str, *, force: bool) -> Path:
    """The folder of this run beside its adapter; an earlier run's is taken up or refused."""
    adapter = profile.train.output or DEFAULT_OUTPUT
    folder = adapter.with_suffix(".run")
    saved = list_checkpoints(folder)
    if force:
        for path in saved:
            path.unlink()
        return folder
    if not saved:
        refuse_overwrite(adapter, force=False)
        return folder
    if read_checkpoint(saved[-1])[2].get("fingerprint") != fingerprint:
        raise InputError(
            f"{folder} holds a run with other data or settings; use --force to start over, or "
            "another train.output."
        )
    return folder


def _fingerprint(profile: Profile, cache: Cache, samples: list[list[Sample]]) -> str:
    """What must be the same for a run to go on; the number of steps may grow."""
    settings = profile.train.model_dump(
        mode="json",
        exclude={"output", "data", "steps", "checkpoint_every", "keep_checkpoints", "log_every"},
    )
    data = [[(sample.digest, sample.caption) for sample in stage] for stage in samples]
    content = [settings, str(cache.grid), cache.vae_hash, cache.text_hash, profile.model.base, data]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _optimizer(profile: Profile, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    settings = profile.train
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if profile.memory.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UsageError(
            'memory.optimizer = "adamw8bit" needs bitsandbytes, which is not installed; '
            "pip install 'gridctl[quant]', or set it to \"adamw\"."
        ) from None
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **options)
    return optimizer


def _summary(run: _Run) -> str:
    return f"loss {run.log[-1]['loss']:.4f}" if run.log else ""


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _gradients_later(run: _Run) -> Iterator[None]:
    """With several processes, exchange gradients only in the last pass of a step."""
    with run.accelerator.no_sync(run.transformer):
        yield


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
