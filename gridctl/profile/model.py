"""Tables of `[model]`, `[memory]` with its presets, `[generate]` and `[bench]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from gridctl.profile.settings import (
    Cell,
    Choice,
    Count,
    Fps,
    Fraction,
    Limits,
    ModelName,
    Scale,
    Section,
    Seed,
    setting,
)

BUILT_IN, BUILT_IN_ADAPTER = "tiny", "tiny-grid"  # the model that ships, and its adapter


@dataclass(frozen=True, kw_only=True)
class ModelSection(Section):
    """The base model and the adapter on top of it."""

    base: ModelName = setting(
        BUILT_IN,
        'Base model: a Hub id, a local diffusers folder, or "tiny", the built-in model.',
        panel="Model",
        metavar="ID|FOLDER",
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
        'LoRA file to generate with; "none" is the bare base model. Unset is none too, except that '
        "tiny has its own.",
        panel="Model",
        metavar="FILE",
    )
    adapter_scale: Annotated[float, Limits(ge=-100, le=100)] = setting(
        1.0,
        "Strength of the adapter: 1 is as trained, 0 is off. Lower it if clips look overtrained.",
        panel="Model",
    )
    text_tokens: Count | None = setting(
        None,
        "Length of a prompt in T5 tokens. Unset is the base model's own (FLUX.1-dev 512, tiny 40). "
        "Lower it to save time and memory with short captions.",
        unit="tokens",
    )
    text_quantize: Literal["none", "nf4", "int8"] = setting(
        "none",
        "Storage of the T5 encoder's weights while prompts are encoded. FLUX.1's "
        "takes 9.4 GiB of card memory unquantised; nf4 (4 bits) and int8 need bitsandbytes.",
    )
    attention: Literal["auto", "flash", "cudnn", "efficient", "math"] = setting(
        "auto",
        "Attention kernel of the transformer: auto, flash, cudnn, efficient or math. auto leaves "
        "the choice to PyTorch, without cuDNN in training, where its backward pass can crash.",
        panel="Speed",
    )


@dataclass(frozen=True, kw_only=True)
class MemorySection(Section):
    """How the model fits into memory. A preset fills the keys that nobody set."""

    preset: Annotated[str, Choice(tuple(PRESETS))] | None = setting(
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
    optimizer: Annotated[str, Choice(tuple(OPTIMIZERS))] = setting(
        "adamw", "Optimizer. adamw8bit keeps its state in 8 bits and needs bitsandbytes."
    )
    encode_batch: Count = setting(
        8, "Frames that the VAE encodes at once. Lower it to save memory.", unit="frames"
    )
    decode_batch: Count = setting(
        8, "Frames that the VAE decodes at once. Lower it to save memory.", unit="frames"
    )


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Bytes of its state per trained weight, and the package that it needs besides PyTorch."""

    state_bytes: float
    package: str | None = None


OPTIMIZERS = {
    "adamw": Optimizer(state_bytes=8),
    "adamw8bit": Optimizer(state_bytes=2, package="bitsandbytes"),
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Memory of the card in GiB, and the keys of [memory] that it sets."""

    card_gib: int | None
    values: Mapping[str, object]


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

_LARGE = {**_GPU, "encode_batch": 24, "decode_batch": 24}

PRESETS = {
    "cpu": Preset(card_gib=None, values=_CPU),
    "12gb": Preset(
        card_gib=12,
        values={**_NF4, "offload_activations": True, "encode_batch": 4, "decode_batch": 2},
    ),
    "16gb": Preset(card_gib=16, values={**_NF4, "encode_batch": 4, "decode_batch": 4}),
    "24gb": Preset(card_gib=24, values=_NF4),
    # The base fits unquantised if the text encoders leave the card before it comes.
    "48gb": Preset(card_gib=48, values=_LARGE),
    "80gb": Preset(card_gib=80, values={**_LARGE, "checkpointed_share": 0.3}),
}


@dataclass(frozen=True, kw_only=True)
class GenerateSection(Section):
    """A prompt → a clip."""

    steps: Count = setting(
        20, "Number of sampling steps. More are slower and cleaner.", panel="Sampling"
    )
    guidance: Scale = setting(
        3.5,
        "Guidance scale for guidance-distilled models (FLUX.1-dev: 3.5). FLUX.1-schnell ignores "
        "it. Leave it at 1 for tiny.",
        panel="Sampling",
    )
    true_cfg_scale: Annotated[float, Limits(ge=1, le=100)] = setting(
        1.0,
        "Classifier-free guidance scale, for models that are not guidance-distilled, such as tiny. "
        "1 disables it. Other values double the time per step.",
        panel="Sampling",
    )
    true_cfg_max_sigma: Annotated[float, Limits(gt=0, le=1)] = setting(
        1.0,
        "Largest noise level (sigma, 0 to 1) with classifier-free guidance. 1 is always.",
        panel="Fine sampling",
    )
    stochastic_min_sigma: Fraction = setting(
        1.0,
        "Smallest noise level (sigma, 0 to 1) at which a step adds fresh noise. It lets the "
        "sampler correct early errors. 1 is never, 0 is in every step.",
        panel="Fine sampling",
    )
    average_max_sigma: Fraction = setting(
        0.0,
        "Largest noise level (sigma, 0 to 1) at which the predictions of successive stochastic "
        "steps are averaged. It makes clips steadier. 0 disables it.",
        panel="Fine sampling",
    )
    resample: Annotated[int, Limits(ge=1, le=100)] = setting(
        1,
        "Number of times each sampling step runs, so that drawn frames meet kept ones (time "
        "travel). 1 disables it, 2 doubles the time. For adapters that were not trained with "
        "clean cells.",
        panel="Fine sampling",
    )
    edit_strength: Fraction = setting(
        0.9,
        "Share of the sampling steps that `generate edit` runs, the last ones. Lower values keep "
        "more of the clip.",
        panel="Sampling",
        flag="--strength",
    )
    edit_guidance: Scale = setting(
        5.5,
        "Guidance scale of the new prompt in `generate edit`. It replaces the classifier-free "
        "guidance scale if that is set, otherwise guidance. Higher values change more.",
        panel="Sampling",
    )
    edit_source_guidance: Scale = setting(
        1.5,
        "Guidance scale of the source prompt, which says what the clip shows now. Used like that "
        "of the new prompt.",
        panel="Sampling",
    )
    restore_strength: Annotated[float, Limits(gt=0, lt=1)] = setting(
        0.3,
        "Noise level (sigma, 0 to 1) from which `generate restore` draws a clip again. Higher "
        "values remove more noise, and more detail.",
        panel="Sampling",
        flag="--strength",
    )
    fast: bool = setting(
        False,
        "Sample faster: skip blocks that hardly change (FirstBlockCache), or take 0.6 of the steps "
        "if steps add fresh noise, as with tiny.",
        panel="Speed",
    )
    compile: bool = setting(
        False,
        "Compile the transformer's blocks (torch.compile): up to a minute once, then faster grids. "
        "Needs a C++ compiler.",
        panel="Speed",
    )
    seed: Seed = setting(
        0, "Random seed. The n-th of several prompts uses seed + n - 1.", panel="Sampling"
    )
    fps: Fps = setting(
        8.0,
        "Frames per second of a clip. A flag wins over the adapter's rate, the adapter's over the "
        "profile's.",
        panel="Output",
    )
    size: Cell = setting(
        (1024, 1024),
        "Size of a single image in pixels; both sides multiples of 16.",
        panel="Output",
    )
    max_mu: Annotated[float, Limits(gt=0, le=100)] | None = setting(
        None,
        "Limit of the schedule's time shift (mu), which grows with the size of the grid. Unset is "
        "no limit.",
    )


@dataclass(frozen=True, kw_only=True)
class BenchSection(Section):
    """Benchmarks."""

    repeats: Count = setting(
        5, "Number of runs per measurement. The median is reported.", panel="Run"
    )
