"""Tables of `[model]`, `[memory]` with its presets, and `[train]`."""

from __future__ import annotations

from collections.abc import Mapping
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
    ModelName,
    Rate,
    Section,
    Seed,
    Weight,
    Whole,
    check_some,
    setting,
)

BUILT_IN, BUILT_IN_ADAPTER = "tiny", "tiny-grid"  # the model that ships, and its adapter

KeepPattern = Literal["first", "last", "ends", "head", "every", "column", "few"]

Tracker = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True, kw_only=True)
class ModelSection(Section):
    """The base model and the adapter on top of it."""

    base: ModelName = setting(
        BUILT_IN, 'Base model: a Hub id, a local diffusers folder, or the built-in "tiny".'
    )
    revision: str | None = setting(
        None, "Branch, tag or commit of a Hub model. Unset is the main branch."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = setting(
        "auto",
        "Number format that the base model computes in. auto is bfloat16 on a GPU and "
        "float32 on a CPU (training on a CPU that has bfloat16 still multiplies in it).",
    )
    adapter: ModelName | None = setting(
        None,
        'LoRA file to generate with. "none" is the bare base model. Unset is none '
        "too, except that tiny takes its own adapter.",
    )
    adapter_scale: Annotated[float, Limits(ge=-100, le=100)] = setting(
        1.0,
        "Strength of the adapter: 1 is as trained, 0 is off. Lower it if clips look overtrained.",
    )
    text_tokens: Count | None = setting(
        None,
        "Length of a prompt in T5 tokens. Unset is the base model's own "
        "(FLUX.1-dev 512, tiny 40). Lower it to save time and memory with short captions.",
    )
    text_quantize: Literal["none", "nf4", "int8"] = setting(
        "none",
        "Storage of the T5 encoder's weights while prompts are encoded. FLUX.1's "
        "takes 9.4 GiB of card memory unquantised; nf4 (4 bits) and int8 need bitsandbytes.",
    )
    attention: Literal["auto", "flash", "cudnn", "efficient", "math"] = setting(
        "auto",
        "Attention kernel of the transformer. auto leaves the choice to PyTorch, "
        "without cuDNN in training, where its backward pass can crash.",
    )


@dataclass(frozen=True, kw_only=True)
class MemorySection(Section):
    """How the model fits into memory. A preset fills the keys that nobody set."""

    preset: Literal["cpu", "12gb", "16gb", "24gb", "48gb", "80gb"] | None = setting(
        None,
        "Preset for a card with that much memory. It sets the other keys of this "
        "section, and a key set by name overrides it.",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Device that runs the model. auto takes a GPU if there is one."
    )
    quantize: Literal["none", "nf4", "int8", "fp8"] = setting(
        "none",
        "Storage of the base transformer's weights. nf4 (4 bits) needs bitsandbytes, "
        "int8 and fp8 (8 bits) need torchao.",
    )
    offload: Literal["none", "group"] = setting(
        "none",
        "Offloading when generating: group keeps layers in main memory until they "
        "are needed, which is slower and takes little card memory. Training ignores it.",
    )
    gradient_checkpointing: bool = setting(
        False, "Recompute activations during training: much less memory, about a third more time."
    )
    checkpointed_share: Fraction = setting(
        1.0,
        "Share of the transformer's blocks that gradient checkpointing recomputes. "
        "Lower it for faster steps where memory is left.",
    )
    offload_activations: bool = setting(
        False,
        "Keep the inputs of checkpointed blocks in main memory: saves 2 GiB of card "
        "memory per grid of 6,144 tokens, and slows steps down a little.",
    )
    optimizer: Literal["adamw", "adamw8bit"] = setting(
        "adamw", "Optimizer. adamw8bit keeps its state in 8 bits and needs bitsandbytes."
    )
    encode_batch: Count = setting(
        8, "Frames that the VAE encodes at once. Lower it to save memory."
    )
    decode_batch: Count = setting(
        8, "Frames that the VAE decodes at once. Lower it to save memory."
    )


# FLUX.1's transformer has 11.9 billion weights: 23.8 GB in bfloat16, 6.7 GB in nf4. T5 adds
# 9.5 GB while prompts are encoded. Below 48 GB the base must therefore be quantised, and a grid of
# 6,144 tokens trains only with gradient checkpointing.
_CPU: Mapping[str, object] = {
    "device": "cpu",
    "quantize": "none",
    "offload": "none",
    "gradient_checkpointing": False,
    "checkpointed_share": 1.0,
    "offload_activations": False,
    "optimizer": "adamw",
    "encode_batch": 8,
    "decode_batch": 8,
}
_GPU = {**_CPU, "device": "cuda", "gradient_checkpointing": True, "optimizer": "adamw8bit"}
_NF4 = {**_GPU, "quantize": "nf4"}

PRESETS: dict[str, dict[str, object]] = {
    "cpu": {**_CPU},
    "12gb": {**_NF4, "offload_activations": True, "encode_batch": 4, "decode_batch": 2},
    "16gb": {**_NF4, "encode_batch": 4, "decode_batch": 4},
    "24gb": {**_NF4},
    # The base fits unquantised if the text encoders leave the card before it comes.
    "48gb": {**_GPU, "encode_batch": 24, "decode_batch": 24},
    "80gb": {**_GPU, "checkpointed_share": 0.3, "encode_batch": 24, "decode_batch": 24},
}


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
        "Dataset folder, as pack and caption make it. It may be a URL (s3://, gs:// or "
        "hf://), which is copied to the cache.",
    )
    output: FilePath | None = setting(None, "Adapter file to write. Unset is adapter.safetensors.")
    start: FilePath | None = setting(
        None,
        "Adapter to start from: a LoRA file from gridctl or another tool, of this rank "
        "or less, or tiny-grid, the built-in one. Unset starts from nothing.",
    )
    steps: Count = setting(2000, "Number of optimizer steps.")
    batch_size: Count = setting(1, "Grids per forward pass. Raise it if memory allows.")
    accumulate: Count = setting(
        1, "Forward passes per optimizer step. The effective batch is batch_size times this."
    )
    learning_rate: Rate = setting(0.0001, "Learning rate after the warm-up.")
    warmup_steps: Whole = setting(0, "Steps over which the learning rate rises from 0.")
    rank: Annotated[int, Limits(ge=1, le=65536)] = setting(
        64, "LoRA rank: capacity of the adapter. Memory grows with it."
    )
    lora_alpha: Annotated[float, Limits(gt=0, le=1e6)] | None = setting(
        None, "LoRA alpha: weights are scaled by alpha / rank. Unset equals rank, a scale of 1."
    )
    temporal_weight: Weight = setting(
        0.1,
        "Weight of the temporal loss (the paper's alpha), which compares the changes "
        "from frame to frame with the true ones. 0 is off.",
    )
    base_weight: Weight = setting(1.0, "Weight of the flow-matching loss (the paper's beta).")
    preserve_weight: Weight = setting(
        0.0,
        "Weight of a loss that keeps the adapter from changing how single images look. 0 is off.",
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
        0.0, "Decay of the moving average of the weights. 0 is off, the paper uses 0.99."
    )
    max_grad_norm: Annotated[float, Limits(gt=0, le=1e9)] = setting(
        1.0, "Largest gradient norm. Larger gradients are scaled down to it."
    )
    weight_decay: Weight = setting(0.01, "Weight decay of AdamW.")
    seed: Seed = setting(0, "Random seed.")
    checkpoint_every: Count = setting(250, "Steps between checkpoints.")
    keep_checkpoints: Count = setting(4, "Number of checkpoints to keep. Older ones are deleted.")
    save_dtype: Literal["float32", "float16", "bfloat16"] = setting(
        "float16", "Number format of the saved adapter."
    )
    log_every: Count = setting(10, "Steps between lines of the log.")
    preview_every: Count | None = setting(
        None,
        "Steps between preview clips, drawn as generate would draw them. The first "
        "ones show the start. Unset draws none.",
    )
    preview_prompts: tuple[str, ...] = setting(
        (), "Prompts of the preview clips. Unset takes four captions, from val/ if there is one."
    )
    trackers: tuple[Tracker, ...] = setting(
        (),
        "Where else to send the metrics: tensorboard, wandb or trackio. The library "
        "must be installed.",
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
