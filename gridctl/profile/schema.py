"""What a profile may say: every section, every key, its type, its limits and its default.

The models are frozen and refuse unknown keys. Values are checked strictly: `"4"` is not a
number. Paths in a profile are relative to the current folder, as they are in flags; only
`extends` is relative to the file it stands in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gridctl.errors import UsageError
from gridctl.geometry import Grid, Order, parse_size
from gridctl.prompt import layout_template


def _parse_cell(value: object) -> tuple[int, int]:
    """`"256x192"`, 256 or [256, 192] → (width, height); ValueError for anything else."""
    if isinstance(value, str):
        value = _as_value_error(parse_size, value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    match value:
        case [int(width), int(height)] if not (isinstance(width, bool) or isinstance(height, bool)):
            _as_value_error(lambda cell: Grid(rows=1, cols=1, cell=cell), (width, height))
            return width, height
    raise ValueError('a cell is "WxH" in pixels; write "256x256", 256 or [256, 256].')


def _parse_layout(value: str) -> str:
    _as_value_error(layout_template, value)
    return value


def _as_value_error(check: Any, value: object) -> Any:
    """`check(value)`, its UsageError turned into the ValueError that pydantic collects."""
    try:
        return check(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Cell = Annotated[tuple[int, int], BeforeValidator(_parse_cell)]
FilePath = Annotated[Path, Field(strict=False)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


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
        default="auto", description="What the base model computes in."
    )
    adapter: str | None = Field(
        default=None, description='LoRA file to generate with; "none" for the bare base.'
    )
    adapter_scale: float = Field(
        default=1.0, description="How strongly the adapter acts; 1 is as trained."
    )
    text_tokens: Positive | None = Field(
        default=None,
        description="T5 tokens of a prompt; the base's own if unset (FLUX.1-dev 512, tiny 64).",
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

    sample: Literal["uniform"] = Field(
        default="uniform", description="Which frames: uniform spreads them over the whole clip."
    )
    fit: Literal["crop"] = Field(
        default="crop", description="How a frame meets its cell: crop fills it and cuts the rest."
    )
    tail: Literal["pad", "error"] = Field(
        default="error",
        description="A clip shorter than the grid: repeat its last frame, or refuse it.",
    )
    format: Literal["jpg", "png", "webp"] = Field(
        default="jpg", description="Of the grid images; png and webp are lossless."
    )
    quality: Annotated[int, Field(ge=1, le=100)] = Field(
        default=95, description="Of JPEG, 1 to 100."
    )


class CaptionSection(Section):
    """Grid images to captions."""

    backend: Literal["template"] = Field(
        default="template", description="What writes the content: template takes the subject."
    )
    layout: Annotated[str, AfterValidator(_parse_layout)] = Field(
        default="video",
        description="Layout prompt: video, turn, or a sentence with {rows}, {cols}, {frames}.",
    )
    subject: str | None = Field(
        default=None, description="Content, where no text came with the clip."
    )


class StageSection(Section):
    """One stage of a curriculum; what it leaves out is as in [train]."""

    data: FilePath | None = Field(default=None, description="Dataset folder of this stage.")
    steps: Positive | None = Field(default=None, description="Steps of this stage.")
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Learning rate of this stage."
    )
    temporal_weight: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Temporal weight at the start of this stage."
    )
    temporal_weight_end: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Temporal weight at its end, reached in a straight line."
    )


class TrainSection(Section):
    """Captioned grids to a LoRA adapter."""

    data: FilePath | None = Field(
        default=None, description="Dataset folder, as pack and caption leave it."
    )
    output: FilePath | None = Field(
        default=None, description="Where the adapter goes; adapter.safetensors if unset."
    )
    steps: Positive = Field(default=2000, description="Optimizer steps.")
    batch_size: Positive = Field(default=1, description="Grids per forward pass.")
    accumulate: Positive = Field(default=1, description="Forward passes per optimizer step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=1e-4, description="After the warm-up."
    )
    warmup_steps: NotNegative = Field(
        default=0, description="Steps in which the learning rate rises from 0."
    )
    rank: Positive = Field(default=64, description="Of the LoRA.")
    lora_alpha: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Scale of the LoRA times rank; rank if unset."
    )
    temporal_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="Weight of the temporal loss, the paper's alpha."
    )
    base_weight: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Weight of the flow-matching loss, the paper's beta."
    )
    row_wraps: bool = Field(
        default=True, description="Count the steps from row to row; false as in the released code."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Decay of the weights' moving average; 0 is off, the paper has 0.99.",
    )
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Gradients are clipped."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.01, description="Of AdamW.")
    seed: NotNegative = Field(
        default=0, description="Of noise, sigmas, dropout and the order of samples."
    )
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
    logit_std: Annotated[float, Field(gt=0)] = Field(default=1.0, description="Of the same.")
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
    guidance: Annotated[float, Field(ge=0)] = Field(
        default=3.5, description="FLUX.1-dev's distilled guidance scale; schnell takes none."
    )
    seed: NotNegative = Field(default=0, description="Of the noise.")
    fps: Annotated[float, Field(gt=0)] = Field(
        default=8.0, description="Of the clip, where the adapter does not say."
    )
    size: Cell = Field(
        default=(1024, 1024), description="Of `generate image`, WxH in pixels; multiples of 16."
    )
    max_mu: Annotated[float, Field(gt=0)] | None = Field(
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
