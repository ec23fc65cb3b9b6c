"""`[train]` and `[[train.stage]]`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from gridctl.profile.schema.section import Section
from gridctl.profile.values import (
    Cell,
    Count,
    DataPath,
    FilePath,
    Fraction,
    LogitMean,
    Rate,
    Seed,
    Weight,
    Whole,
)

KeepPattern = Literal["first", "last", "ends", "head", "every", "column", "few"]

Tracker = Literal["tensorboard", "wandb", "trackio"]


class StageSection(Section):
    """One stage of a curriculum. A key that it leaves out is as in [train]."""

    data: DataPath | None = Field(default=None, description="Dataset folder of this stage.")
    cell: Cell | None = Field(
        default=None,
        description="Cell size of this stage, WxH in pixels. Small cells first cost little. The "
        "last stage must have grid.cell.",
    )
    batch_size: Count | None = Field(
        default=None, description="Grids per forward pass in this stage."
    )
    accumulate: Count | None = Field(
        default=None, description="Forward passes per optimizer step in this stage."
    )
    steps: Count | None = Field(default=None, description="Number of steps of this stage.")
    learning_rate: Rate | None = Field(
        default=None, description="Learning rate at the start of this stage."
    )
    learning_rate_end: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None, description="Learning rate at its end. Unset keeps the rate constant."
    )
    temporal_weight: Weight | None = Field(
        default=None, description="Temporal weight at the start of this stage."
    )
    temporal_weight_end: Weight | None = Field(
        default=None, description="Temporal weight at its end. Unset keeps it constant."
    )
    logit_mean: LogitMean | None = Field(
        default=None, description="Mean of the logit-normal sigma distribution in this stage."
    )


class TrainSection(Section):
    """Captioned grids → a LoRA adapter."""

    data: DataPath | None = Field(
        default=None,
        description="Dataset folder, as pack and caption make it. It may be a URL (s3://, gs:// or "
        "hf://), which is copied to the cache.",
    )
    output: FilePath | None = Field(
        default=None, description="Adapter file to write. Unset is adapter.safetensors."
    )
    start: FilePath | None = Field(
        default=None,
        description="Adapter to start from: a LoRA file from gridctl or another tool, of this rank "
        "or less, or tiny-grid, the built-in one. Unset starts from nothing.",
    )
    steps: Count = Field(default=2000, description="Number of optimizer steps.")
    batch_size: Count = Field(
        default=1, description="Grids per forward pass. Raise it if memory allows."
    )
    accumulate: Count = Field(
        default=1,
        description="Forward passes per optimizer step. The effective batch is batch_size times "
        "this.",
    )
    learning_rate: Rate = Field(default=1e-4, description="Learning rate after the warm-up.")
    warmup_steps: Whole = Field(
        default=0, description="Steps over which the learning rate rises from 0."
    )
    rank: Annotated[int, Field(ge=1, le=65_536)] = Field(
        default=64, description="LoRA rank: capacity of the adapter. Memory grows with it."
    )
    lora_alpha: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None,
        description="LoRA alpha: weights are scaled by alpha / rank. Unset equals rank, a scale "
        "of 1.",
    )
    temporal_weight: Weight = Field(
        default=0.1,
        description="Weight of the temporal loss (the paper's alpha), which compares the changes "
        "from frame to frame with the true ones. 0 is off.",
    )
    base_weight: Weight = Field(
        default=1.0, description="Weight of the flow-matching loss (the paper's beta)."
    )
    preserve_weight: Weight = Field(
        default=0.0,
        description="Weight of a loss that keeps the adapter from changing how single images "
        "look. 0 is off.",
    )
    keep: Fraction = Field(
        default=0.0,
        description="Probability that a sample keeps some frames clean, so that the adapter learns "
        "to continue given frames. 0 disables it.",
    )
    keep_patterns: Annotated[tuple[KeepPattern, ...], Field(strict=False, min_length=1)] = Field(
        default=get_args(KeepPattern),
        description="Frames to keep: first, last, both ends, the head of a clip, every n-th, a "
        "column of the grid, or a random few. One pattern is drawn per sample.",
    )
    row_wraps: bool = Field(
        default=True,
        description="Count the step from the end of a row to the start of the next in the temporal "
        "loss. false is what the authors' code does.",
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Decay of the moving average of the weights. 0 is off, the paper uses 0.99.",
    )
    max_grad_norm: Annotated[float, Field(gt=0, le=1e9)] = Field(
        default=1.0, description="Largest gradient norm. Larger gradients are scaled down to it."
    )
    weight_decay: Weight = Field(default=0.01, description="Weight decay of AdamW.")
    seed: Seed = Field(default=0, description="Random seed.")
    checkpoint_every: Count = Field(default=250, description="Steps between checkpoints.")
    keep_checkpoints: Count = Field(
        default=4, description="Number of checkpoints to keep. Older ones are deleted."
    )
    save_dtype: Literal["float32", "float16", "bfloat16"] = Field(
        default="float16", description="Number format of the saved adapter."
    )
    log_every: Count = Field(default=10, description="Steps between lines of the log.")
    preview_every: Count | None = Field(
        default=None,
        description="Steps between preview clips, drawn as generate would draw them. The first "
        "ones show the start. Unset draws none.",
    )
    preview_prompts: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Prompts of the preview clips. Unset takes four captions, from val/ if there "
        "is one.",
    )
    trackers: Annotated[tuple[Tracker, ...], Field(strict=False)] = Field(
        default=(),
        description="Where else to send the metrics: tensorboard, wandb or trackio. The library "
        "must be installed.",
    )
    caption_dropout: Fraction = Field(
        default=0.0,
        description="Share of samples that are trained without their caption. It teaches the "
        "prediction for an empty prompt, which classifier-free guidance needs.",
    )
    logit_mean: LogitMean = Field(
        default=0.0,
        description="Mean of the logit-normal sigma distribution, before the shift. Above 0 "
        "trains more on noisy steps.",
    )
    logit_std: Annotated[float, Field(gt=0, le=100)] = Field(
        default=1.0, description="Standard deviation of the logit-normal sigma distribution."
    )
    compile: bool = Field(
        default=False,
        description="Compile the transformer's blocks with torch.compile: about a minute at "
        "the start, then faster steps on a GPU. Needs a C++ compiler.",
    )
    allow_distilled: bool = Field(
        default=False,
        description="Train FLUX.1-schnell, although training damages its four-step distillation.",
    )
    stages: Annotated[tuple[StageSection, ...], Field(strict=False)] = Field(
        default=(),
        alias="stage",
        description="Curriculum: [[train.stage]] tables that run one after the other.",
    )
