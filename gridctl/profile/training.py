"""Tables of `[train]` and `[[train.stage]]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from gridctl.profile.settings import (
    Cell,
    Count,
    DataPath,
    FilePath,
    Fraction,
    Limits,
    LogitMean,
    Rate,
    Section,
    Seed,
    Weight,
    Whole,
    check_some,
    setting,
)

KeepPattern = Literal["first", "last", "ends", "head", "every", "column", "few"]

Tracker = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True, kw_only=True)
class StageSection(Section):
    """One stage of a curriculum. A key that it leaves out is as in [train]."""

    data: DataPath | None = setting(None, "Dataset folder of this stage.")
    cell: Cell | None = setting(
        None,
        "Cell size of this stage, WxH in pixels. Small cells first cost little. The "
        "last stage must have grid.cell.",
    )
    batch_size: Count | None = setting(None, "Grids per forward pass in this stage.")
    accumulate: Count | None = setting(None, "Forward passes per optimizer step in this stage.")
    steps: Count | None = setting(None, "Number of steps of this stage.")
    learning_rate: Rate | None = setting(None, "Learning rate at the start of this stage.")
    learning_rate_end: Annotated[float, Limits(ge=0, le=10)] | None = setting(
        None, "Learning rate at its end. Unset keeps the rate constant."
    )
    temporal_weight: Weight | None = setting(None, "Temporal weight at the start of this stage.")
    temporal_weight_end: Weight | None = setting(
        None, "Temporal weight at its end. Unset keeps it constant."
    )
    logit_mean: LogitMean | None = setting(
        None, "Mean of the logit-normal sigma distribution in this stage."
    )


@dataclass(frozen=True, kw_only=True)
class TrainSection(Section):
    """Captioned grids → a LoRA adapter."""

    data: DataPath | None = setting(
        None,
        "Dataset folder, as pack and caption make it. It may be a URL (s3://, gs:// or hf://), "
        "which is copied to the cache.",
        panel="Input",
        metavar="PATH",
    )
    output: FilePath | None = setting(
        None,
        "Adapter file to write. Unset is adapter.safetensors.",
        panel="Output",
        flag="-o --output",
        metavar="FILE",
    )
    start: FilePath | None = setting(
        None,
        "Adapter to start from: a LoRA file from gridctl or another tool, of the same rank or "
        "less, or tiny-grid, the built-in one. Unset starts from nothing.",
        panel="Model",
        metavar="ADAPTER",
    )
    steps: Count = setting(2000, "Number of optimizer steps.", panel="Training")
    batch_size: Count = setting(
        1, "Grids per forward pass. Raise it if memory allows.", unit="grids", panel="Training"
    )
    accumulate: Count = setting(
        1, "Forward passes per optimizer step. The effective batch is batch_size times this."
    )
    learning_rate: Rate = setting(1e-4, "Learning rate after the warm-up.", panel="Training")
    warmup_steps: Whole = setting(
        0, "Number of steps over which the learning rate rises from 0.", unit="steps"
    )
    rank: Annotated[int, Limits(ge=1, le=65536)] = setting(
        64, "LoRA rank: capacity of the adapter. Memory grows with it.", panel="Training"
    )
    lora_alpha: Annotated[float, Limits(gt=0, le=1e6)] | None = setting(
        None, "LoRA alpha: weights are scaled by alpha / rank. Unset equals rank, a scale of 1."
    )
    temporal_weight: Weight = setting(
        0.1,
        "Weight of the temporal loss (the paper's alpha), which compares the changes from frame to "
        "frame with the true ones. 0 disables it.",
        panel="Training",
    )
    base_weight: Weight = setting(1.0, "Weight of the flow-matching loss (the paper's beta).")
    preserve_weight: Weight = setting(
        0.0,
        "Weight of a loss that keeps the adapter from changing how single images look. 0 disables "
        "it.",
    )
    keep: Fraction = setting(
        0.0,
        "Probability that a sample keeps some frames clean, so that the adapter learns "
        "to continue given frames. 0 disables it.",
    )
    keep_patterns: Annotated[tuple[KeepPattern, ...], check_some] = setting(
        get_args(KeepPattern),
        "Frames to keep: first, last, both ends, the head of a clip, every n-th, a "
        "column of the grid, or a random few. One pattern is drawn per sample.",
    )
    row_wraps: bool = setting(
        True,
        "Count the step from the end of a row to the start of the next in the temporal "
        "loss. false is what the authors' code does.",
    )
    ema: Annotated[float, Limits(ge=0, lt=1)] = setting(
        0.0, "Decay of the moving average of the weights. 0 disables it; the paper uses 0.99."
    )
    max_grad_norm: Annotated[float, Limits(gt=0, le=1e9)] = setting(
        1.0, "Largest gradient norm. Larger gradients are scaled down to it."
    )
    weight_decay: Weight = setting(0.01, "Weight decay of AdamW.")
    seed: Seed = setting(0, "Random seed.", panel="Training")
    checkpoint_every: Count = setting(250, "Steps between checkpoints.", unit="steps")
    keep_checkpoints: Count = setting(4, "Number of checkpoints to keep. Older ones are deleted.")
    save_dtype: Literal["float32", "float16", "bfloat16"] = setting(
        "float16", "Number format of the saved adapter."
    )
    log_every: Count = setting(10, "Steps between lines of the log.", unit="steps")
    preview_every: Count | None = setting(
        None,
        "Steps between preview clips, drawn as generate would draw them. The first ones show the "
        "start. Unset draws none.",
        unit="steps",
        panel="Run",
    )
    preview_prompts: tuple[str, ...] = setting(
        (), "Prompts of the preview clips. Unset takes four captions, from val/ if there is one."
    )
    trackers: tuple[Tracker, ...] = setting(
        (),
        "Trackers that also get the metrics: tensorboard, wandb or trackio. The library must be "
        "installed.",
    )
    caption_dropout: Fraction = setting(
        0.0,
        "Share of samples that are trained without their caption. It teaches the "
        "prediction for an empty prompt, which classifier-free guidance needs.",
    )
    logit_mean: LogitMean = setting(
        0.0,
        "Mean of the logit-normal sigma distribution, before the shift. Above 0 "
        "trains more on noisy steps.",
    )
    logit_std: Annotated[float, Limits(gt=0, le=100)] = setting(
        1.0, "Standard deviation of the logit-normal sigma distribution."
    )
    compile: bool = setting(
        False,
        "Compile the transformer's blocks with torch.compile: about a minute at "
        "the start, then faster steps on a GPU. Needs a C++ compiler.",
    )
    allow_distilled: bool = setting(
        False, "Train FLUX.1-schnell, although training damages its four-step distillation."
    )
    stages: tuple[StageSection, ...] = setting(
        (), "Curriculum: [[train.stage]] tables that run one after the other.", key="stage"
    )
