"""Setting up a run: check everything, then encode, then load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridctl.engine.shard import take_shard
from gridctl.errors import UsageError, counted
from gridctl.geometry import Grid
from gridctl.lora.adapters import AdapterMetadata, add_lora, check_start, lora_tensors, start_lora
from gridctl.machine.devices import check_compiler, has_fast_bfloat16
from gridctl.machine.hub import local_adapter
from gridctl.models.base import BaseModel, open_base
from gridctl.models.family import Family
from gridctl.models.hub import find_family
from gridctl.models.transformer import compile_blocks, recompute_blocks
from gridctl.profile import BUILT_IN, Profile, TrainSection, profile_toml, without_folder
from gridctl.progress import Progress
from gridctl.prompt import grid_prompt, layout_template
from gridctl.tiny.vocabulary import new_words
from gridctl.train.cache import Cache, encode_grids, encode_prompts, missing
from gridctl.train.data import (
    Dataset,
    Sample,
    Stage,
    check_captions,
    read_dataset,
    resolve_stages,
)
from gridctl.train.resume import RunInputs, run_inputs

DEFAULT_OUTPUT = Path("adapter.safetensors")
_MAX_VALIDATION = 32  # grids
_COMPILE = "train.compile"
_PREVIEWS = 4  # without train.preview_prompts

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A run whose profile and data are checked. Nothing is loaded yet.

    `datasets` has one for each stage, `start` is the adapter to start from, and `folder` the run
    folder.
    """

    profile: Profile
    base: BaseModel
    stages: list[Stage]
    datasets: list[Dataset]
    caption_faults: list[str]
    cache: Cache
    start: Path | None
    folder: Path
    inputs: RunInputs

    @property
    def adapter(self) -> Path:
        """The adapter that the run writes at its end."""
        return self.profile.train.output or DEFAULT_OUTPUT

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def validation(self) -> list[Sample]:
        """The grids to validate on, each once even if several stages have it."""
        every = (sample for dataset in self.datasets for sample in dataset.validation)
        return list({sample.image: sample for sample in every}.values())[:_MAX_VALIDATION]

    @property
    def captions(self) -> list[str]:
        """The texts that the run may need, each once."""
        settings = self.profile.train
        samples = [s for d in self.datasets for s in (*d.train, *d.validation)]
        texts = [text for sample in samples for text in sample.captions]
        if settings.preserve_weight:
            texts += [text for sample in samples for text in sample.contents]
        if settings.caption_dropout:
            texts.append("")
        if settings.preview_every:
            texts += [*self.preview_prompts, ""]  # the empty one for classifier-free guidance
        return list(dict.fromkeys(texts))

    @property
    def preview_prompts(self) -> list[str]:
        """The prompts of the preview clips, with their layout prompt."""
        made = self.adapter_metadata(0)
        if given := self.profile.train.preview_prompts:
            return [grid_prompt(made.grid, text, made.layout, fps=made.fps) for text in given]
        samples = self.validation or list(self.datasets[-1].train)
        return [sample.captions[0] for sample in samples[:_PREVIEWS]]

    def adapter_metadata(self, steps: int) -> AdapterMetadata:
        """The metadata of the adapter after `steps`."""
        profile = self.profile
        samples = [sample for dataset in self.datasets for sample in dataset.train]
        has_layout = any(sample.contents != sample.captions for sample in samples)
        return AdapterMetadata(
            grid=self.stages[-1].grid,
            # Captions from elsewhere have no layout prompt; generate then adds none either.
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
    """Everything that a step needs. `autocast`: matrices are multiplied in bfloat16."""

    setup: Setup
    accelerator: Any
    transformer: Any
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor] = field(default_factory=dict)
    autocast: bool = False

    @property
    def profile(self) -> Profile:
        return self.setup.profile

    @property
    def stages(self) -> list[Stage]:
        return self.setup.stages

    @property
    def samples(self) -> list[tuple[Sample, ...]]:
        """The grids to train on, for each stage."""
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
        """Whether this process writes the files: one of several does."""
        return bool(self.accelerator.is_main_process)

    def mu(self, grid: Grid, *, capped: bool = True) -> float:
        """The shift of the sigmas for images of `grid`'s size; generate.max_mu caps it."""
        cap = self.profile.generate.max_mu if capped else None
        return self.setup.base.mu(grid.num_tokens, cap=cap)


def set_up(profile: Profile, *, processes: int = 1, progress: Progress) -> Setup:
    """Check everything that can be checked before anything is encoded or loaded.

    Raises UsageError if `processes` cannot share the steps evenly or the profile cannot be
    trained, and InputError for unusable data.
    """
    settings = profile.train
    stages = resolve_stages(settings, profile.grid.to_grid(), progress=progress)
    for stage in stages:
        if stage.slots % processes:
            raise UsageError(
                f"{processes} processes cannot share a step of {counted(stage.slots, 'grid')} "
                "evenly; set train.batch_size or train.accumulate to a multiple."
            )
    layout = layout_template(profile.caption.layout)
    datasets = [read_dataset(s.data, s.grid, layout=layout, progress=progress) for s in stages]
    caption_faults = check_captions(datasets, profile)
    progress(0, 1, "finding the base model")
    base = open_base(profile)
    refuse_distilled(profile, base)
    progress(0, 1, "hashing the base model")
    cache = Cache.of(base, profile.model.text_tokens)
    start = _start(settings, base.family)
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


def fill_cache(setup: Setup, *, progress: Progress, shard: tuple[int, int] | None = None) -> int:
    """Encode the entries that the cache lacks, and return their number.

    Each encoder is loaded only for that, and freed again. `shard` (i, n) takes the i-th of n
    shares, so that several machines can fill one cache.
    """
    samples: dict[Grid, list[Sample]] = {}
    for stage, dataset in zip(setup.stages, setup.datasets, strict=True):
        samples.setdefault(stage.grid, []).extend((*dataset.train, *dataset.validation))
    samples[setup.stages[-1].grid] += setup.validation  # of all stages, on the last one's grid
    # Shares of all entries, not of the missing ones, which other machines change.
    grids = missing(dict(take_shard(setup.cache.grids(samples).items(), shard)))
    prompts = missing(dict(take_shard(setup.cache.prompts(setup.captions).items(), shard)))
    memory, tokens = setup.profile.memory, setup.profile.model.text_tokens
    encode_grids(setup.base, grids, batch=memory.encode_batch, progress=progress)
    encode_prompts(setup.base, prompts, text_tokens=tokens, progress=progress)
    return len(grids) + len(prompts)


def make_accelerator(profile: Profile) -> Any:
    """accelerate's Accelerator with the profile's trackers; UsageError if one is not installed."""
    from accelerate import Accelerator

    trackers = profile.train.trackers
    for name in trackers:
        if find_spec(name) is None:
            raise UsageError(f"train.trackers names {name}, which is missing; pip install {name}.")
    return Accelerator(
        cpu=profile.memory.device == "cpu",
        log_with=list(trackers) or None,
        project_dir=run_folder(profile),
    )


def load_run(setup: Setup, accelerator: Any, *, progress: Progress) -> Run:
    """Load the transformer and add the LoRA and its optimizer. The cache must be full."""
    profile, settings = setup.profile, setup.profile.train
    progress(0, 1, "loading the transformer")
    transformer = setup.base.load_transformer(training=True)
    memory, family = profile.memory, setup.base.family
    if memory.gradient_checkpointing:
        recompute_blocks(
            transformer, family, memory.checkpointed_share, offload=memory.offload_activations
        )
    parameters = add_lora(
        transformer,
        family.LORA_TARGETS,
        rank=settings.rank,
        alpha=_alpha(settings),
        seed=settings.seed,
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
        # On a CPU with fast bfloat16 it is 1.5 times as fast; the weights stay in float32.
        autocast=device.type == "cpu" and dtype == torch.float32 and has_fast_bfloat16(device),
    )


def lora_scale(settings: TrainSection) -> float:
    """alpha / rank, which is folded into the exported weights."""
    return _alpha(settings) / settings.rank


def _alpha(settings: TrainSection) -> float:
    return settings.lora_alpha or settings.rank


def refuse_distilled(profile: Profile, base: BaseModel | None = None) -> None:
    """UsageError for a distilled base, unless the profile allows it."""
    name = profile.model.base
    family = base.family if base else find_family(name)
    distilled = base.is_distilled if base else family.is_distilled(name, None)
    if distilled and not profile.train.allow_distilled:
        raise UsageError(
            f"{name} is distilled to a few steps, and training damages that; "
            f"train on {family.TRAINABLE}, or set train.allow_distilled = true."
        )


def _start(settings: TrainSection, family: Family) -> Path | None:
    """Check the adapter to start from. Raises what `check_start` does, or UsageError."""
    if settings.start is None:
        return None
    start = local_adapter(str(settings.start))
    check_start(start, family.NAME, family.LORA_TARGETS, rank=settings.rank)
    if start.resolve() == (settings.output or DEFAULT_OUTPUT).resolve():
        raise UsageError(
            f"the run starts from {start} and would replace it; choose another train.output."
        )
    return start


def run_folder(profile: Profile) -> Path:
    """The run folder of a profile, beside its adapter. UsageError for an unusable name."""
    adapter = profile.train.output or DEFAULT_OUTPUT
    if adapter.suffix != ".safetensors" or adapter.is_dir():
        raise UsageError(f"{adapter} cannot be an adapter's name; end it with .safetensors.")
    return adapter.with_suffix(".run")


def _optimizer(profile: Profile, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    settings = profile.train
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if profile.memory.optimizer == "adamw":
        # On a GPU, one kernel for all parameters; elsewhere PyTorch chooses.
        fused = True if all(parameter.is_cuda for parameter in parameters) else None
        return torch.optim.AdamW(parameters, fused=fused, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UsageError(
            'memory.optimizer = "adamw8bit" needs bitsandbytes, which is not installed; '
            'pip install bitsandbytes, or set it to "adamw".'
        ) from None
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **options)
    return optimizer
