"""What a profile may say: every section, every key, its type, its limits and its default.

The models are frozen and refuse unknown keys. Values are checked strictly: `"4"` is not a
number. Paths in a profile are relative to the current folder, as they are in flags; only
`extends` is relative to the file it stands in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from gridctl.geometry import Grid, Order
from gridctl.profile.values import (
    Cell,
    FilePath,
    Fraction,
    Layout,
    NotNegative,
    Positive,
    Question,
    Sampling,
)
from gridctl.prompt import DEFAULT_QUESTION, LAYOUT_FIELDS, LAYOUTS, View

KeepPattern = Literal["first", "last", "ends", "head", "every", "column", "few"]
DEFAULT_VLM = "zai-org/GLM-4.1V-9B-Thinking"  # of the kind that the method's authors caption with


class Section(BaseModel):
    """A TOML table: frozen, strict, and without room for keys that mean nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class GridSection(Section):
    """The grid: how many cells, how large, in which order."""

    rows: Positive = Field(default=4, description="Cells from top to bottom.")
    cols: Positive = Field(default=6, description="Cells from left to right.")
    cell: Cell = Field(default=(256, 256), description="One cell, WxH in pixels; multiples of 16.")
    order: Order = Field(default="row-major", description="How frames run through the cells.")

    def to_grid(self) -> Grid:
        """The same as a `Grid`."""
        return Grid(rows=self.rows, cols=self.cols, cell=self.cell, order=self.order)


class ModelSection(Section):
    """The base model and the adapter on top of it."""

    base: str = Field(
        default="tiny",
        min_length=1,
        description='A Hub id, a local diffusers folder, or the built-in "tiny".',
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a Hub model.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto",
        description='What the base model computes in; "auto" is bfloat16 on a GPU and float32 on a '
        "processor, where training still multiplies in bfloat16 if the processor can.",
    )
    adapter: str | None = Field(
        default=None, description='LoRA file to generate with; "none" for the bare base.'
    )
    adapter_scale: float = Field(
        default=1.0, description="How strongly the adapter acts; 1 is as trained."
    )
    text_tokens: Positive | None = Field(
        default=None,
        description="T5 tokens of a prompt; the base's own if unset (FLUX.1-dev 512, tiny 40).",
    )


class MemorySection(Section):
    """How the model is made to fit; a preset fills the knobs that nobody set."""

    preset: Literal["cpu", "12gb", "16gb", "24gb", "48gb", "80gb"] | None = Field(
        default=None, description="A named set of the knobs below, by the memory of the card."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the model runs; auto takes a GPU if there is one."
    )
    quantize: Literal["none", "nf4", "int8"] = Field(
        default="none", description="How the base transformer's weights are stored."
    )
    offload: Literal["none", "group"] = Field(
        default="none",
        description="group keeps the transformer's layers in main memory until their turn; "
        "for generating only.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations when training: less memory, more time."
    )
    optimizer: Literal["adamw", "adamw8bit"] = Field(
        default="adamw", description="adamw8bit keeps its state in 8 bits; it needs bitsandbytes."
    )
    encode_batch: Positive = Field(default=8, description="Frames that the VAE encodes at once.")
    decode_batch: Positive = Field(default=8, description="Frames that the VAE decodes at once.")


class PackSection(Section):
    """Videos and frame folders to grid images."""

    sample: Sampling = Field(
        default="uniform",
        description="Which frames: uniform spreads one grid's over the whole clip, windows fills "
        "grid after grid, fps=8 does so at 8 frames a second, scenes crosses no cut.",
    )
    stride: Positive = Field(default=1, description="Windows take every n-th frame.")
    overlap: NotNegative = Field(
        default=0, description="Frames that a window shares with the one before."
    )
    start: NonNegativeFloat = Field(
        default=0.0, description="Seconds of each clip to leave out at its beginning."
    )
    end: PositiveFloat | None = Field(
        default=None, description="Second of each clip to stop at; its end if unset."
    )
    max_grids: Positive | None = Field(
        default=None, description="Of each clip; as many as it fills if unset."
    )
    fit: Literal["crop", "pad", "stretch"] = Field(
        default="crop",
        description="How a frame meets its cell: crop fills it and cuts the rest, pad adds bars.",
    )
    background: str = Field(
        default="black", description="Colour of bars and under transparent pixels; a name or #rgb."
    )
    tail: Literal["drop", "pad", "error"] = Field(
        default="drop",
        description="Frames that fill no grid: leave them out and say so, repeat the last one, or "
        "refuse the clip.",
    )
    format: Literal["jpg", "png", "webp"] = Field(
        default="jpg", description="Of the grid images; png and webp are lossless."
    )
    quality: Annotated[int, Field(ge=1, le=100)] = Field(
        default=95, description="Of JPEG, 1 to 100."
    )
    workers: Positive | None = Field(
        default=None, description="Processes that work at once; one for each core if unset."
    )


class CaptionSection(Section):
    """Grid images to captions."""

    backend: Literal["template", "vlm", "server"] = Field(
        default="template",
        description="What writes the content: the words that are there, a model here, or a server.",
    )
    layout: Layout = Field(
        default="video",
        description=f"Layout prompt: {', '.join(LAYOUTS)}, or a sentence with {LAYOUT_FIELDS}.",
    )
    subject: str | None = Field(
        default=None, description="Content, where no text came with the clip; models are told it."
    )
    mapping: FilePath | None = Field(
        default=None, description="CSV or JSONL with file_name and text, or TOML: name = text."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description=f"Of vlm: a Hub id or folder, {DEFAULT_VLM} if unset; of server: its name.",
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of vlm's model.")
    server: str | None = Field(
        default=None,
        min_length=1,
        description="URL of an OpenAI-compatible server, such as http://localhost:8000/v1.",
    )
    prompt: Question = Field(
        default=DEFAULT_QUESTION,
        description="What models are asked; {shown} and {task} word the view and the layout.",
    )
    view: View = Field(
        default="grid", description="What models see: the grid, key frames, or frame by frame."
    )
    keyframes: Positive = Field(default=4, description="Of the view keyframes.")
    image_side: Annotated[int, Field(ge=16)] = Field(
        default=1536, description="Pictures for models are scaled down to this longer side."
    )
    max_tokens: Positive = Field(
        default=1024, description="Of an answer, what a model thinks aloud included."
    )
    batch: Positive = Field(default=4, description="Grids that vlm describes at once.")
    concurrency: Positive = Field(default=8, description="Requests to the server at once.")
    rate: PositiveFloat | None = Field(
        default=None, description="Requests per minute, at most; no limit if unset."
    )
    retries: NotNegative = Field(
        default=6, description="Of a request that failed for a reason that may pass."
    )
    timeout_seconds: PositiveFloat = Field(
        default=120.0, description="Silence of the server after which a request is tried again."
    )
    key_variable: str = Field(
        default="OPENAI_API_KEY",
        min_length=1,
        description="Environment variable with the server's key; the key itself is never written.",
    )
    request: dict[str, Any] = Field(
        default={}, description="More of the request to the server: { temperature = 0.2 }."
    )


class StageSection(Section):
    """One stage of a curriculum; what it leaves out is as in [train]."""

    data: FilePath | None = Field(default=None, description="Dataset folder of this stage.")
    steps: Positive | None = Field(default=None, description="Steps of this stage.")
    learning_rate: PositiveFloat | None = Field(
        default=None, description="Learning rate at the start of this stage."
    )
    learning_rate_end: NonNegativeFloat | None = Field(
        default=None, description="Learning rate at its end, reached in a straight line."
    )
    temporal_weight: NonNegativeFloat | None = Field(
        default=None, description="Temporal weight at the start of this stage."
    )
    temporal_weight_end: NonNegativeFloat | None = Field(
        default=None, description="Temporal weight at its end, reached in a straight line."
    )
    logit_mean: float | None = Field(
        default=None, description="Mean of the logit-normal sigmas of this stage."
    )


class TrainSection(Section):
    """Captioned grids to a LoRA adapter."""

    data: FilePath | None = Field(
        default=None, description="Dataset folder, as pack and caption leave it."
    )
    output: FilePath | None = Field(
        default=None, description="Where the adapter goes; adapter.safetensors if unset."
    )
    start: FilePath | None = Field(
        default=None, description="Adapter to begin with, of the same rank, or tiny-grid."
    )
    steps: Positive = Field(default=2000, description="Optimizer steps.")
    batch_size: Positive = Field(default=1, description="Grids per forward pass.")
    accumulate: Positive = Field(default=1, description="Forward passes per optimizer step.")
    learning_rate: PositiveFloat = Field(default=1e-4, description="After the warm-up.")
    warmup_steps: NotNegative = Field(
        default=0, description="Steps in which the learning rate rises from 0."
    )
    rank: Positive = Field(default=64, description="Of the LoRA.")
    lora_alpha: PositiveFloat | None = Field(
        default=None, description="Scale of the LoRA times rank; rank if unset."
    )
    temporal_weight: NonNegativeFloat = Field(
        default=0.1, description="Weight of the temporal loss, the paper's alpha."
    )
    base_weight: NonNegativeFloat = Field(
        default=1.0, description="Weight of the flow-matching loss, the paper's beta."
    )
    preserve_weight: NonNegativeFloat = Field(
        default=0.0, description="Weight of drawing single frames as the base does; 0 is off."
    )
    keep: Fraction = Field(
        default=0.0,
        description="Probability that a sample keeps some frames clean, so that the adapter learns "
        "to continue given frames; 0 disables it.",
    )
    keep_patterns: Annotated[tuple[KeepPattern, ...], Field(strict=False, min_length=1)] = Field(
        default=get_args(KeepPattern),
        description="Which frames are kept: first, last, both ends, the head of a clip, every "
        "n-th, a column of the grid, or a random few; one pattern is drawn per sample.",
    )
    row_wraps: bool = Field(
        default=True, description="Count the steps from row to row; false as in the released code."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Decay of the weights' moving average; 0 is off, the paper has 0.99.",
    )
    max_grad_norm: PositiveFloat = Field(default=1.0, description="Gradients are clipped.")
    weight_decay: NonNegativeFloat = Field(default=0.01, description="Of AdamW.")
    seed: NotNegative = Field(default=0, description="Of everything that is drawn by lot.")
    checkpoint_every: Positive = Field(default=250, description="Steps between checkpoints.")
    keep_checkpoints: Positive = Field(default=4, description="Older ones are removed.")
    save_dtype: Literal["float32", "float16", "bfloat16"] = Field(
        default="float16", description="What the adapter's weights are stored in."
    )
    log_every: Positive = Field(default=10, description="Steps between lines of the log.")
    caption_dropout: Fraction = Field(
        default=0.0, description="Share of samples that lose their caption."
    )
    logit_mean: float = Field(
        default=0.0, description="Of the logit-normal sigmas, before the shift."
    )
    logit_std: PositiveFloat = Field(default=1.0, description="Of the same.")
    allow_distilled: bool = Field(
        default=False,
        description="Train on schnell although that wears down its four-step distillation.",
    )
    stages: Annotated[tuple[StageSection, ...], Field(strict=False)] = Field(
        default=(), alias="stage", description="A curriculum, one [[train.stage]] after the other."
    )


class GenerateSection(Section):
    """A prompt to a clip."""

    steps: Positive = Field(default=20, description="Of the sampler.")
    guidance: NonNegativeFloat = Field(
        default=3.5, description="FLUX.1-dev's distilled guidance scale; schnell takes none."
    )
    true_cfg_scale: Annotated[float, Field(ge=1)] = Field(
        default=1.0,
        description="Classifier-free guidance away from an empty prompt, in up to twice the time; "
        "1 is off. For a base that was not distilled, such as tiny.",
    )
    true_cfg_max_sigma: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Largest sigma at which true_cfg_scale acts; 1 is always."
    )
    stochastic_min_sigma: Fraction = Field(
        default=1.0,
        description="Sigma above which each step draws its noise anew, so that an early error "
        "need not stay; 1 is nowhere. For a base that makes many, such as tiny.",
    )
    average_max_sigma: Fraction = Field(
        default=0.0,
        description="Sigma up to which each step of a clip that draws its noise anew goes on with "
        "the mean of its image and the last such mean, for steadier frames; 0 is nowhere.",
    )
    seed: NotNegative = Field(default=0, description="Of the noise.")
    fps: PositiveFloat = Field(
        default=8.0, description="Of the clip, where the adapter does not say."
    )
    size: Cell = Field(
        default=(1024, 1024), description="Of `generate image`, WxH in pixels; multiples of 16."
    )
    max_mu: PositiveFloat | None = Field(
        default=None, description="Cap of the schedule's time shift, which grows with the grid."
    )


class BenchSection(Section):
    """Measured figures."""

    repeats: Positive = Field(default=5, description="Runs of each measurement; the median counts.")


class Profile(Section):
    """One frozen profile: what every command takes its values from."""

    grid: GridSection = Field(default=GridSection(), description="The grid.")
    model: ModelSection = Field(
        default=ModelSection(), description="The base model and its adapter."
    )
    memory: MemorySection = Field(
        default=MemorySection(),
        description="How the model is made to fit; a preset fills the knobs.",
    )
    pack: PackSection = Field(
        default=PackSection(), description="Videos and frame folders to grids."
    )
    caption: CaptionSection = Field(default=CaptionSection(), description="Grids to captions.")
    train: TrainSection = Field(
        default=TrainSection(), description="Captioned grids to an adapter."
    )
    generate: GenerateSection = Field(default=GenerateSection(), description="A prompt to a clip.")
    bench: BenchSection = Field(default=BenchSection(), description="Measured figures.")
