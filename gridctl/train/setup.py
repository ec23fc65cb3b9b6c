"""Setting a run up: everything is checked, then cached, then loaded, in that order."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridctl.errors import InputError, UsageError
from gridctl.files import refuse_overwrite
from gridctl.flux.adapter import add_lora, check_start, lora_tensors, start_lora
from gridctl.flux.base import BaseModel, open_base
from gridctl.flux.flow import default_mu
from gridctl.flux.hub import file_hash
from gridctl.geometry import Grid
from gridctl.machine.devices import has_fast_bfloat16
from gridctl.machine.models import local_adapter
from gridctl.profile import Profile, TrainSection
from gridctl.progress import Progress
from gridctl.prompt import layout_template
from gridctl.train.cache import Cache
from gridctl.train.checkpoint import list_checkpoints, read_checkpoint
from gridctl.train.data import Sample, read_samples
from gridctl.train.stages import Stage, resolve_stages

DEFAULT_OUTPUT = Path("adapter.safetensors")
_VALIDATION_SAMPLES = 32
# Settings that a run may be resumed with other values of.
_FREE_TO_CHANGE = (
    "output",
    "start",
    "data",
    "steps",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "save_dtype",
)


@dataclass(kw_only=True)
class Run:
    """All that a step needs. Everything drawn by lot is a function of (seed, step, slot)."""

    profile: Profile
    grid: Grid
    folder: Path
    stages: list[Stage]
    samples: list[list[Sample]]  # one list per stage
    validation: list[Sample]
    cache: Cache
    mu: float
    frame_mu: float  # of a single frame
    accelerator: Any
    transformer: Any
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    fingerprint: str
    base_name: str
    ema: dict[str, Tensor] = field(default_factory=dict)
    autocast: bool = False  # matrices are multiplied in bfloat16
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


def set_up(profile: Profile, *, force: bool, progress: Progress) -> Run:
    """Check everything that can be checked, fill the cache, then load the transformer."""
    from accelerate import Accelerator

    settings = profile.train
    grid = profile.grid.to_grid()
    stages = resolve_stages(settings)
    layout = layout_template(profile.caption.layout)
    found = [read_samples(stage.data, grid, layout=layout) for stage in stages]
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
    start = _start(settings)
    fingerprint = _fingerprint(profile, cache, samples, stages, base, start)
    folder = _run_folder(profile, fingerprint, force=force)
    validation = validation[:_VALIDATION_SAMPLES]
    captions = dict.fromkeys(
        [s.caption for s in everything]
        + [s.content for s in everything] * bool(settings.preserve_weight)
        + [""] * bool(settings.caption_dropout)
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
    if start:
        start_lora(transformer, start, scale=alpha / settings.rank)
    optimizer = _optimizer(profile, parameters)
    ema = {}
    if settings.ema:
        ema = {n: t.detach().clone() for n, t in lora_tensors(transformer).items()}
    return Run(
        profile=profile,
        grid=grid,
        folder=folder,
        stages=stages,
        samples=samples,
        validation=validation,
        cache=cache,
        mu=default_mu(base.scheduler_config, grid.num_tokens, max_mu=profile.generate.max_mu),
        frame_mu=default_mu(base.scheduler_config, grid.num_tokens // grid.num_frames),
        accelerator=accelerator,
        transformer=accelerator.prepare(transformer.train()),
        parameters=parameters,
        optimizer=optimizer,
        fingerprint=fingerprint,
        base_name=base.name,
        ema=ema,
        # On a processor that can: 1.5 times as fast, with float32 weights.
        autocast=base.device.type == "cpu"
        and base.dtype == torch.float32
        and has_fast_bfloat16(base.device),
    )


def refuse_schnell(profile: Profile, base: BaseModel | None = None) -> None:
    """UsageError for a distilled base, unless the profile says it may be worn down."""
    distilled = base.is_distilled if base else "schnell" in profile.model.base.lower()
    if distilled and not profile.train.allow_distilled:
        raise UsageError(
            f"{profile.model.base} is distilled to a few steps, and training wears that down; "
            "train on FLUX.1-dev, or set train.allow_distilled = true."
        )


def _start(settings: TrainSection) -> Path | None:
    """The adapter to begin with, checked; raises what `check_start` does, or UsageError."""
    if settings.start is None:
        return None
    start = local_adapter(str(settings.start))
    check_start(start, rank=settings.rank)
    if start.resolve() == (settings.output or DEFAULT_OUTPUT).resolve():
        raise UsageError(
            f"{start} is what the run begins with and would replace; use another train.output."
        )
    return start


def _run_folder(profile: Profile, fingerprint: str, *, force: bool) -> Path:
    """The folder of this run beside its adapter; an earlier run's is taken up or refused."""
    adapter = profile.train.output or DEFAULT_OUTPUT
    if adapter.suffix != ".safetensors" or adapter.is_dir():
        raise UsageError(f"{adapter} is no name for an adapter; end it with .safetensors.")
    folder = adapter.with_suffix(".run")
    saved = list_checkpoints(folder)
    if force:
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


def _fingerprint(
    profile: Profile,
    cache: Cache,
    samples: list[list[Sample]],
    stages: list[Stage],
    base: BaseModel,
    start: Path | None,
) -> str:
    """What must be the same for a run to go on; the last stage may grow, if it has no ramp."""
    free: dict[str, Any] = dict.fromkeys(_FREE_TO_CHANGE, True)
    if not profile.train.keep:  # runs from before the setting was there go on
        free |= {"keep": True, "keep_patterns": True}
    free["stages"] = {"__all__": {"data"}}
    settings = profile.train.model_dump(mode="json", exclude=free)
    data: list[Any] = [[(sample.digest, sample.caption) for sample in stage] for stage in samples]
    if profile.train.preserve_weight:  # frames are drawn by what the layout prompt leaves
        data += [[sample.content for sample in stage] for stage in samples]
    memory, max_mu = profile.memory, profile.generate.max_mu
    weights = base.fingerprint("transformer")
    model = [profile.model.base, weights, memory.quantize, memory.optimizer, max_mu]
    model += [file_hash(start)] if start else []
    last = stages[-1]
    fixed = [stage.steps for stage in stages[:-1]]
    fixed += [last.steps] if last.has_ramp else []
    content = [settings, str(cache.grid), cache.vae_hash, cache.text_hash, model, data, fixed]
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
