"""Setting up a run: everything is checked, then encoded, then loaded, in that order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridctl.diffusion.flow import default_mu
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.lora.adapters import AdapterMetadata, add_lora, check_start, lora_tensors, start_lora
from gridctl.machine.devices import check_compiler, has_fast_bfloat16
from gridctl.machine.hub import local_adapter
from gridctl.models.attention import recompute_blocks
from gridctl.models.base import BaseModel, compile_blocks, open_base
from gridctl.profile import BUILT_IN, Profile, TrainSection, profile_toml, without_folder
from gridctl.progress import Progress
from gridctl.prompt import grid_prompt, layout_template
from gridctl.tiny.vocabulary import new_words
from gridctl.train.cache import Cache, encode_grids, encode_prompts, missing
from gridctl.train.data import (
    Dataset,
    Sample,
    Stage,
    all_captions,
    check_captions,
    read_dataset,
    resolve_stages,
)
from gridctl.train.resume import RunInputs, run_inputs

DEFAULT_OUTPUT = Path("adapter.safetensors")
_VALIDATION_SAMPLES = 32
_COMPILE = "train.compile"
_PREVIEWS = 4  # where the profile names no prompts

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A run whose profile and data are checked. Nothing is loaded yet."""

    profile: Profile
    base: BaseModel
    stages: list[Stage]
    datasets: list[Dataset]  # one per stage
    caption_faults: list[str]
    cache: Cache
    start: Path | None
    folder: Path
    inputs: RunInputs

    @property
    def adapter(self) -> Path:
        """The file that the run writes at its end."""
        return self.profile.train.output or DEFAULT_OUTPUT

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def validation(self) -> list[Sample]:
        """Each grid once, however many stages have it."""
        every = (sample for dataset in self.datasets for sample in dataset.validation)
        return list({sample.image: sample for sample in every}.values())[:_VALIDATION_SAMPLES]

    @property
    def captions(self) -> list[str]:
        """Every text that the run may need."""
        settings = self.profile.train
        samples = [s for d in self.datasets for s in (*d.train, *d.validation)]
        texts = dict(all_captions(samples))
        if settings.preserve_weight:
            texts |= all_captions(samples, contents=True)
        if settings.caption_dropout:
            texts[""] = None
        if settings.preview_every:
            texts |= dict.fromkeys([*self.preview_prompts, ""])  # the empty one for guidance
        return list(texts)

    @property
    def preview_prompts(self) -> list[str]:
        """The whole prompts of the preview clips."""
        made = self.adapter_metadata(0)
        if given := self.profile.train.preview_prompts:
            return [grid_prompt(made.grid, text, made.layout, fps=made.fps) for text in given]
        samples = self.validation or list(self.datasets[-1].train)
        return [sample.captions[0] for sample in samples[:_PREVIEWS]]

    def adapter_metadata(self, steps: int) -> AdapterMetadata:
        """The header of the adapter after `steps`."""
        profile = self.profile
        samples = [sample for dataset in self.datasets for sample in dataset.train]
        has_layout = any(sample.contents != sample.captions for sample in samples)
        return AdapterMetadata(
            grid=self.stages[-1].grid,
            # Captions from elsewhere have no layout prompt: prompts are then taken as they are.
            layout=layout_template(profile.caption.layout) if has_layout else "",
            fps=self.datasets[-1].fps or profile.generate.fps,
            base=without_folder(self.base.name),
            steps=steps,
            profile=profile_toml(profile, keep_folders=False),
            keep=profile.train.keep_patterns if profile.train.keep else (),
            words=new_words(text for sample in samples for text in sample.captions)
            if self.base.name == BUILT_IN
            else (),
            clips=len({sample.digest for sample in samples}),
        )


@dataclass(kw_only=True)
class Run:
    """All that a step needs. Everything random is a function of (seed, step, slot)."""

    setup: Setup
    accelerator: Any
    transformer: Any
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor] = field(default_factory=dict)
    autocast: bool = False  # matrices are multiplied in bfloat16

    @property
    def profile(self) -> Profile:
        return self.setup.profile

    @property
    def stages(self) -> list[Stage]:
        return self.setup.stages

    @property
    def samples(self) -> list[tuple[Sample, ...]]:
        """One tuple per stage."""
        return [dataset.train for dataset in self.setup.datasets]

    @property
    def cache(self) -> Cache:
        return self.setup.cache

    @property
    def device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files; one of several does."""
        return bool(self.accelerator.is_main_process)

    def mu(self, grid: Grid, *, capped: bool = True) -> float:
        """The shift of the sigmas for images of `grid`'s size."""
        cap = self.profile.generate.max_mu if capped else None
        return default_mu(self.setup.base.scheduler_config, grid.num_tokens, max_mu=cap)


def set_up(profile: Profile, *, progress: Progress) -> Setup:
    """Check everything that can be checked before anything is encoded or loaded."""
    settings = profile.train
    stages = resolve_stages(settings, profile.grid.to_grid(), progress=progress)
    layout = layout_template(profile.caption.layout)
    datasets = [read_dataset(s.data, s.grid, layout=layout, progress=progress) for s in stages]
    caption_faults = check_captions(datasets, profile)
    progress(0, 1, "finding the base model")
    base = open_base(profile)
    refuse_schnell(profile, base)
    progress(0, 1, "hashing the base model")
    cache = Cache.of(base, profile.model.text_tokens)
    start = _start(settings)
    if settings.compile:
        check_compiler(base.device, _COMPILE)
    samples = [dataset.train for dataset in datasets]
    return Setup(
        profile=profile,
        base=base,
        stages=stages,
        datasets=datasets,
        caption_faults=caption_faults,
        cache=cache,
        start=start,
        folder=run_folder(profile),
        inputs=run_inputs(profile, base, cache, stages, samples, start),
    )


def fill_cache(setup: Setup, *, progress: Progress, shard: tuple[int, int] = (0, 1)) -> int:
    """Encode what the cache lacks: each encoder is loaded only for that, and freed again.

    `shard` (index, count) takes a share of it, so that several machines can fill one cache.
    Returns the number of new entries.
    """
    samples: dict[Grid, list[Sample]] = {}
    for stage, dataset in zip(setup.stages, setup.datasets, strict=True):
        samples.setdefault(stage.grid, []).extend((*dataset.train, *dataset.validation))
    # Validation is on the last stage's grid.
    samples.setdefault(setup.stages[-1].grid, []).extend(setup.validation)
    index, count = shard
    # Shares are of everything, not of what is missing, which other shards change.
    grids = missing(dict(list(setup.cache.grids(samples).items())[index::count]))
    prompts = missing(dict(list(setup.cache.prompts(setup.captions).items())[index::count]))
    memory, tokens = setup.profile.memory, setup.profile.model.text_tokens
    encode_grids(setup.base, grids, batch=memory.encode_batch, progress=progress)
    encode_prompts(setup.base, prompts, text_tokens=tokens, progress=progress)
    return len(grids) + len(prompts)


def make_accelerator(profile: Profile) -> Any:
    """accelerate's; UsageError if its processes cannot share the steps evenly."""
    from accelerate import Accelerator

    trackers = profile.train.trackers
    for name in trackers:
        if find_spec(name) is None:
            raise UsageError(f"train.trackers names {name}, which is missing; pip install {name}.")
    accelerator = Accelerator(
        cpu=profile.memory.device == "cpu",
        log_with=list(trackers) or None,
        project_dir=run_folder(profile),
    )
    for stage in resolve_stages(profile.train, profile.grid.to_grid()):
        if stage.slots % accelerator.num_processes:
            raise UsageError(
                f"{accelerator.num_processes} processes cannot share a step of {stage.slots} "
                "grids evenly; set train.batch_size or train.accumulate to a multiple."
            )
    return accelerator


def load_run(setup: Setup, accelerator: Any, *, progress: Progress) -> Run:
    """Load the transformer and add what is trained. The cache must be full."""
    profile, settings = setup.profile, setup.profile.train
    progress(0, 1, "loading the transformer")
    transformer = setup.base.load_transformer(training=True)
    memory = profile.memory
    if memory.gradient_checkpointing:
        recompute_blocks(transformer, memory.checkpointed_share, offload=memory.offload_activations)
    parameters = add_lora(
        transformer, rank=settings.rank, alpha=_alpha(settings), seed=settings.seed
    )
    if setup.start:
        start_lora(transformer, setup.start, scale=lora_scale(settings))
    if settings.compile:
        compile_blocks(transformer, _COMPILE)
    optimizer = _optimizer(profile, parameters)
    ema = {}
    if settings.ema:
        ema = {n: t.detach().clone() for n, t in lora_tensors(transformer).items()}
    device, dtype = setup.base.device, setup.base.dtype
    return Run(
        setup=setup,
        accelerator=accelerator,
        transformer=accelerator.prepare(transformer.train()),
        parameters=parameters,
        optimizer=optimizer,
        ema=ema,
        # On a CPU that can: 1.5 times as fast, with float32 weights.
        autocast=device.type == "cpu" and dtype == torch.float32 and has_fast_bfloat16(device),
    )


def lora_scale(settings: TrainSection) -> float:
    """alpha / rank, which the exported weights contain."""
    return _alpha(settings) / settings.rank


def _alpha(settings: TrainSection) -> float:
    return settings.lora_alpha or settings.rank


def refuse_schnell(profile: Profile, base: BaseModel | None = None) -> None:
    """UsageError for a distilled base, unless the profile allows it."""
    distilled = base.is_distilled if base else "schnell" in profile.model.base.lower()
    if distilled and not profile.train.allow_distilled:
        raise UsageError(
            f"{profile.model.base} is distilled to a few steps, and training damages that; "
            "train on FLUX.1-dev, or set train.allow_distilled = true."
        )


def _start(settings: TrainSection) -> Path | None:
    """The adapter to start from, checked; raises what `check_start` does, or UsageError."""
    if settings.start is None:
        return None
    start = local_adapter(str(settings.start))
    check_start(start, rank=settings.rank)
    if start.resolve() == (settings.output or DEFAULT_OUTPUT).resolve():
        raise UsageError(
            f"the run starts from {start} and would replace it; choose another train.output."
        )
    return start


def run_folder(profile: Profile) -> Path:
    """Where the run of a profile is, beside its adapter. UsageError for an unusable name."""
    adapter = profile.train.output or DEFAULT_OUTPUT
    if adapter.suffix != ".safetensors" or adapter.is_dir():
        raise UsageError(f"{adapter} cannot be an adapter's name; end it with .safetensors.")
    return adapter.with_suffix(".run")


def _optimizer(profile: Profile, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    settings = profile.train
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if profile.memory.optimizer == "adamw":
        # One kernel for all parameters on a GPU; elsewhere PyTorch's own choice.
        fused = True if all(parameter.is_cuda for parameter in parameters) else None
        return torch.optim.AdamW(parameters, fused=fused, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UsageError(
            'memory.optimizer = "adamw8bit" needs bitsandbytes, which is not installed; '
            "pip install 'gridctl[quant]', or set it to \"adamw\"."
        ) from None
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **options)
    return optimizer
