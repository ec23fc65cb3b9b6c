"""A base model and its parts: text encoders, transformer, VAE.

FLUX.1's parts never need to be in memory together: first the encoders encode prompts, then the
transformer samples, then the VAE decodes. So each part is loaded on its own and freed by its
caller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gridctl.geometry import Grid
from gridctl.machine.devices import check_compiler, pick_device, pick_dtype
from gridctl.machine.quiet import quiet_libraries
from gridctl.models.hub import find_base, fingerprint, loading
from gridctl.models.latents import draw_noise
from gridctl.models.quantization import (
    load_quantized,
    quantization_config,
    transformer_quantization,
)
from gridctl.models.text import TextEncoders, Tokenizers
from gridctl.profile import Profile

_GRAPHS = 64  # of a kind of block, compiled at most


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A FLUX.1 pipeline in diffusers' folder layout, and how to load its parts."""

    name: str
    folder: Path
    device: torch.device
    dtype: torch.dtype
    quantize: str
    offload: str
    text_quantize: str = "none"

    @cached_property
    def transformer_config(self) -> dict[str, Any]:
        return self._config("transformer/config.json")

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        return self._config("scheduler/scheduler_config.json")

    @property
    def is_distilled(self) -> bool:
        """Whether it was distilled to a few steps (schnell); such a model takes no guidance."""
        return not self.transformer_config.get("guidance_embeds")

    def draw_noise(self, grid: Grid, generator: torch.Generator) -> torch.Tensor:
        """Noise (1, C, H/16, W/16) for a grid, on the CPU: a seed means the same everywhere."""
        width, height = grid.size("token")
        return draw_noise(self.transformer_config["in_channels"], height, width, generator)

    def noise_source(self, grid: Grid, seed: int) -> Callable[[], torch.Tensor]:
        """A function that gives fresh noise for a grid at each call, on the model's device."""
        generator = torch.Generator().manual_seed(seed)
        return lambda: self.draw_noise(grid, generator).to(self.device)

    def tokenizers(self, text_tokens: int | None = None) -> Tokenizers:
        """Those of CLIP and T5; without `text_tokens`, of the length the base was trained with."""
        from transformers import CLIPTokenizer, T5TokenizerFast

        with loading(self.name):
            t5_tokenizer = T5TokenizerFast.from_pretrained(self.folder / "tokenizer_2")
            return Tokenizers(
                clip_tokenizer=CLIPTokenizer.from_pretrained(self.folder / "tokenizer"),
                t5_tokenizer=t5_tokenizer,
                text_tokens=text_tokens or min(512, t5_tokenizer.model_max_length),
            )

    @contextmanager
    def text_encoders(self, text_tokens: int | None = None) -> Iterator[TextEncoders]:
        """CLIP and T5 with their tokenizers."""
        from transformers import CLIPTextModel, T5EncoderModel

        tokenizers = self.tokenizers(text_tokens)
        with loading(self.name):
            encoders = TextEncoders(
                clip_tokenizer=tokenizers.clip_tokenizer,
                clip=self._encoder(CLIPTextModel, "text_encoder"),
                t5_tokenizer=tokenizers.t5_tokenizer,
                t5=self._encoder(T5EncoderModel, "text_encoder_2", self.text_quantize),
                text_tokens=tokenizers.text_tokens,
            )
        yield encoders
        del encoders
        self._free()

    @contextmanager
    def vae(self) -> Iterator[Any]:
        """The VAE, in float32: it is small beside the transformer, and rounding would show."""
        from diffusers import AutoencoderKL

        with loading(self.name):
            vae = AutoencoderKL.from_pretrained(
                self.folder / "vae", torch_dtype=torch.float32, use_safetensors=True
            )
        yield vae.to(self.device).eval().requires_grad_(False)
        del vae
        self._free()

    @property
    def is_offloaded(self) -> bool:
        """Whether the transformer that draws waits in main memory, layer by layer."""
        return self.offload == "group" and self.device.type != "cpu"

    def load_transformer(self, *, training: bool = False) -> Any:
        """The transformer, frozen, on its device, quantised and offloaded as the profile says.

        In training, nothing is offloaded: the layers' copies in main memory would overwrite the
        trained weights.
        """
        from diffusers import FluxTransformer2DModel

        offloaded = self.is_offloaded and not training
        options: dict[str, Any] = {"torch_dtype": self.dtype, "use_safetensors": True}
        if not offloaded:
            options["device_map"] = {"": self.device}  # no second copy in main memory
        folder = self.folder / "transformer"

        def load(**more: Any) -> Any:
            with loading(self.name):
                return FluxTransformer2DModel.from_pretrained(folder, **options, **more)

        if self.quantize == "none":
            transformer = load()
        else:
            config = transformer_quantization(self.quantize, self.dtype)
            transformer = load_quantized(
                folder,
                self.quantize,
                self.device,
                options,
                lambda: load(quantization_config=config),
            )
        transformer.requires_grad_(False)
        if offloaded:
            transformer.enable_group_offload(
                onload_device=self.device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=True,
            )
        return transformer

    def fingerprint(self, *parts: str) -> str:
        """A hash of all files in these sub-folders."""
        return fingerprint(self.folder, *parts)

    def _config(self, name: str) -> dict[str, Any]:
        with loading(self.name):
            config = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return dict(config)

    def _encoder(self, model_class: Any, part: str, quantize: str = "none") -> Any:
        options: dict[str, Any] = {"dtype": self.dtype, "use_safetensors": True}
        if quantize != "none":
            from transformers import BitsAndBytesConfig

            options["quantization_config"] = quantization_config(
                BitsAndBytesConfig, quantize, self.dtype
            )
        model = model_class.from_pretrained(
            self.folder / part, device_map={"": self.device}, **options
        )
        return model.eval().requires_grad_(False)

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def compile_blocks(transformer: Any, setting: str) -> None:
    """Compile the blocks of `transformer`; each kind once for each shape, when it first runs.

    A graph for any shape would be made between a forward pass and its recomputation, and the two
    would not save the same tensors.

    Raises UsageError, which names the setting that asked for it, without a C++ compiler.
    """
    from torch._dynamo import config

    check_compiler(transformer.device, setting)
    # Past its limit of 8 graphs PyTorch runs a block uncompiled. Three cell sizes with single
    # frames and validation need more.
    config.cache_size_limit = max(config.cache_size_limit, _GRAPHS)
    transformer.compile_repeated_blocks(dynamic=False)


def open_base(profile: Profile) -> BaseModel:
    """Find the profile's base model and pick its device and dtype; no part is loaded yet.

    Raises UsageError for a GPU that is not there, and what `find_base` raises.
    """
    quiet_libraries()
    name, memory = profile.model.base, profile.memory
    device = pick_device(memory.device)
    return BaseModel(
        name=name,
        folder=find_base(name, profile.model.revision),
        device=device,
        dtype=pick_dtype(profile.model.dtype, device),
        quantize=memory.quantize,
        offload=memory.offload,
        text_quantize=profile.model.text_quantize,
    )
