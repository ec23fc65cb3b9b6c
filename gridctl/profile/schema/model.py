"""`[model]` and `[memory]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gridctl.profile.schema.section import Section
from gridctl.profile.values import Count, Fraction, ModelName

BUILT_IN, BUILT_IN_ADAPTER = "tiny", "tiny-grid"  # the model that ships, and its adapter


class ModelSection(Section):
    """The base model and the adapter on top of it."""

    base: ModelName = Field(
        default=BUILT_IN,
        description='Base model: a Hub id, a local diffusers folder, or the built-in "tiny".',
    )
    revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a Hub model. Unset is the main branch.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto",
        description="Number format that the base model computes in. auto is bfloat16 on a GPU and "
        "float32 on a CPU (training on a CPU that has bfloat16 still multiplies in it).",
    )
    adapter: ModelName | None = Field(
        default=None,
        description='LoRA file to generate with. "none" is the bare base model. Unset is none '
        "too, except that tiny takes its own adapter.",
    )
    adapter_scale: Annotated[float, Field(ge=-100, le=100)] = Field(
        default=1.0,
        description="Strength of the adapter: 1 is as trained, 0 is off. Lower it if clips look "
        "overtrained.",
    )
    text_tokens: Count | None = Field(
        default=None,
        description="Length of a prompt in T5 tokens. Unset is the base model's own "
        "(FLUX.1-dev 512, tiny 40). Lower it to save time and memory with short captions.",
    )
    text_quantize: Literal["none", "nf4", "int8"] = Field(
        default="none",
        description="Storage of the T5 encoder's weights while prompts are encoded. FLUX.1's "
        "takes 9.4 GiB of card memory unquantised; nf4 (4 bits) and int8 need bitsandbytes.",
    )
    attention: Literal["auto", "flash", "cudnn", "efficient", "math"] = Field(
        default="auto",
        description="Attention kernel of the transformer. auto leaves the choice to PyTorch, "
        "without cuDNN in training, where its backward pass can crash.",
    )


class MemorySection(Section):
    """How the model fits into memory. A preset fills the keys that nobody set."""

    preset: Literal["cpu", "12gb", "16gb", "24gb", "48gb", "80gb"] | None = Field(
        default=None,
        description="Preset for a card with that much memory. It sets the other keys of this "
        "section, and a key set by name overrides it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device that runs the model. auto takes a GPU if there is one."
    )
    quantize: Literal["none", "nf4", "int8", "fp8"] = Field(
        default="none",
        description="Storage of the base transformer's weights. nf4 (4 bits) needs bitsandbytes, "
        "int8 and fp8 (8 bits) need torchao.",
    )
    offload: Literal["none", "group"] = Field(
        default="none",
        description="Offloading when generating: group keeps layers in main memory until they "
        "are needed, which is slower and takes little card memory. Training ignores it.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute activations during training: much less memory, about a third more "
        "time.",
    )
    checkpointed_share: Fraction = Field(
        default=1.0,
        description="Share of the transformer's blocks that gradient checkpointing recomputes. "
        "Lower it for faster steps where memory is left.",
    )
    offload_activations: bool = Field(
        default=False,
        description="Keep the inputs of checkpointed blocks in main memory: saves 2 GiB of card "
        "memory per grid of 6,144 tokens, and slows steps down a little.",
    )
    optimizer: Literal["adamw", "adamw8bit"] = Field(
        default="adamw",
        description="Optimizer. adamw8bit keeps its state in 8 bits and needs bitsandbytes.",
    )
    encode_batch: Count = Field(
        default=8, description="Frames that the VAE encodes at once. Lower it to save memory."
    )
    decode_batch: Count = Field(
        default=8, description="Frames that the VAE decodes at once. Lower it to save memory."
    )
