"""A base model and its parts: text encoders, transformer, VAE.

The parts never need to be in memory together: first the encoders encode prompts, then the
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

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from gridctl.diffusion.sampler import Sampling, num_steps
from gridctl.geometry import Grid
from gridctl.machine.devices import pick_device, pick_dtype
from gridctl.machine.quiet import quiet_libraries
from gridctl.models.family import EncodeText, Family, TextLimits
from gridctl.models.hub import find_base, find_family, fingerprint, loading
from gridctl.models.quantization import (
    load_quantized,
    quantization_config,
    transformer_quantization,
)
from gridctl.profile import GenerateSection, Profile

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class FrameCoder:
    """The VAE between frames and latents.

    Frames are encoded and decoded cell by cell: the VAE's convolutions, norms and attention
    would otherwise mix neighbouring cells, and draw their borders.
    """

    family: Family
    vae: Any

    @torch.no_grad()
    def encode(self, frames: Frames, *, batch: int) -> Tensor:
        """Frames (F, H, W, 3) uint8 → latents (F, C, H/16, W/16).

        The posterior's mode, not a sample: the same frame always gives the same latents.
        """
        parts = []
        weight = next(self.vae.parameters())  # diffusers' `vae.device` walks through all modules
        for start in range(0, len(frames), batch):
            pixels = torch.from_numpy(frames[start : start + batch]).to(weight)
            pixels = rearrange(pixels / 127.5 - 1, "f h w c -> f c h w")
            parts.append(self.vae.encode(pixels).latent_dist.mode())
        return self.family.to_latents(self.vae, torch.cat(parts))

    @torch.no_grad()
    def decode(self, latents: Tensor, *, batch: int) -> Frames:
        """Latents (F, C, h, w) → frames (F, 16h, 16w, 3) uint8; the inverse of `encode`."""
        codes = self.family.to_codes(self.vae, latents)
        parts = []
        weight = next(self.vae.parameters())
        for start in range(0, len(codes), batch):
            pixels = self.vae.decode(codes[start : start + batch].to(weight)).sample
            pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            parts.append(rearrange(pixels, "f c h w -> f h w c").cpu())
        return torch.cat(parts).numpy()


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A pipeline in diffusers' folder layout, and how to load its parts."""

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

    @cached_property
    def family(self) -> Family:
        return find_family(self.name, self.folder)

    @property
    def is_distilled(self) -> bool:
        """Whether it was distilled to a few steps, so that training damages it."""
        with loading(self.name):
            return self.family.is_distilled(self.name, self.folder)

    @property
    def takes_guidance(self) -> bool:
        """Whether its transformer reads a guidance scale."""
        return self.family.takes_guidance(self.transformer_config)

    def text_limits(self, text_tokens: int | None) -> TextLimits:
        return self.family.text_limits(self.folder, text_tokens)

    def mu(self, tokens: int, *, steps: int | None = None, cap: float | None = None) -> float:
        """The shift of the sigmas for `tokens` image tokens: to sample in `steps`, or to train."""
        mu = self.family.mu(self.scheduler_config, tokens, steps)
        return mu if cap is None else min(mu, cap)

    def sampling(
        self, settings: GenerateSection, grid: Grid, *, keep_clean: bool = False
    ) -> Sampling:
        """How a profile's [generate] samples `grid` on this base."""
        mu = self.mu(grid.num_tokens, steps=num_steps(settings), cap=settings.max_mu)
        return Sampling.of(settings, mu, keep_clean=keep_clean)

    def draw_noise(self, grid: Grid, generator: torch.Generator) -> Tensor:
        """Noise (1, C, H/16, W/16) for a grid, on the CPU: a seed means the same everywhere."""
        width, height = grid.size("token")
        return self.family.draw_noise(self.transformer_config, height, width, generator)

    def noise_source(self, grid: Grid, seed: int) -> Callable[[], Tensor]:
        """A function that gives fresh noise for a grid at each call, on the model's device."""
        generator = torch.Generator().manual_seed(seed)
        return lambda: self.draw_noise(grid, generator).to(self.device)

    @contextmanager
    def text_encoders(self, text_tokens: int | None = None) -> Iterator[EncodeText]:
        """Text encoders; without `text_tokens`, of the length the base was trained with."""

        def load(model_class: Any, folder: str, is_quantized: bool) -> Any:
            return self._encoder(
                model_class, folder, self.text_quantize if is_quantized else "none"
            )

        with loading(self.name):
            encode = self.family.load_text(self.folder, text_tokens, load)
        yield encode
        del encode
        self._free()

    @contextmanager
    def vae(self) -> Iterator[FrameCoder]:
        """The VAE, in float32: it is small beside the transformer, and rounding would show."""
        import diffusers

        with loading(self.name):
            vae = getattr(diffusers, self.family.VAE).from_pretrained(
                self.folder / "vae", torch_dtype=torch.float32, use_safetensors=True
            )
        vae = vae.to(self.device).eval().requires_grad_(False)
        yield FrameCoder(family=self.family, vae=vae)
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
        import diffusers

        model_class = getattr(diffusers, self.family.TRANSFORMER)
        offloaded = self.is_offloaded and not training
        options: dict[str, Any] = {"torch_dtype": self.dtype, "use_safetensors": True}
        if not offloaded:
            options["device_map"] = {"": self.device}  # no second copy in main memory
        folder = self.folder / "transformer"

        def load(**more: Any) -> Any:
            with loading(self.name):
                return model_class.from_pretrained(folder, **options, **more)

        if self.quantize == "none":
            transformer = load()
        else:
            config = transformer_quantization(self.quantize, self.dtype)
            transformer = load_quantized(
                model_class,
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
        path = self.folder / part / "config.json"
        if not path.is_file():  # transformers would make a model of its default size
            raise FileNotFoundError(f"there is no {path}")
        model = model_class.from_pretrained(
            self.folder / part, device_map={"": self.device}, **options
        )
        return model.eval().requires_grad_(False)

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


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
