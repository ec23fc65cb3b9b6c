"""Running a transformer: attention kernels, recomputed and compiled blocks, and guidance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridctl.diffusion.flow import guide
from gridctl.errors import UsageError
from gridctl.machine.devices import check_compiler
from gridctl.models.base import BaseModel
from gridctl.models.family import Family, Prompt
from gridctl.models.prompts import move_prompt
from gridctl.profile import Profile

CACHE_THRESHOLD = 0.1  # share by which the first block's output may change
_NO_KERNEL = ("No available kernel", "No viable backend")  # PyTorch's words on a GPU and a CPU
_GRAPHS = 64  # at most, of each kind of block


@contextmanager
def attention_kernel(kind: str, *, training: bool) -> Iterator[None]:
    """Run attention with the kernel of this name: auto, flash, cudnn, efficient or math.

    "auto" leaves the choice to PyTorch, but without cuDNN's kernel in training: on an H200 with
    PyTorch 2.11, its backward pass ended in an illegal memory access in three of four runs. Alone,
    without a model around it, it was right and twice as fast as flash attention. In sampling it is
    the fastest. A backward pass that recomputes activations must run inside, too.

    Raises UsageError if the kernel that was asked for cannot do the work.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    named = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    if kind == "auto":
        kernels = [kernel for name, kernel in named.items() if name != "cudnn" or not training]
    else:
        kernels = [named[kind]]
    try:
        with sdpa_kernel(kernels):
            yield
    except RuntimeError as error:
        if not any(text in str(error) for text in _NO_KERNEL):
            raise
        raise UsageError(
            f'model.attention = "{kind}" does not work with this device and dtype; '
            'set it to "auto".'
        ) from error


def recompute_blocks(
    transformer: Any, family: Family, share: float, *, offload: bool = False
) -> None:
    """Let the first `share` of the blocks keep only their inputs, and recompute the rest.

    The first ones, because the backward pass comes to them last, when the activations of the
    others are already freed. With `offload` the inputs wait in main memory.
    """
    from torch.autograd.graph import save_on_cpu
    from torch.utils.checkpoint import checkpoint

    blocks = family.blocks(transformer)
    chosen = {id(block) for block in blocks[: round(share * len(blocks))]}
    on_gpu = transformer.device.type == "cuda"

    def run(block: Any, *inputs: Any) -> Any:
        if id(block) not in chosen:
            return block(*inputs)
        with save_on_cpu(pin_memory=on_gpu) if offload else nullcontext():
            # These transformers have no dropout, so there is no random state to keep.
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)

    if chosen:
        transformer.enable_gradient_checkpointing(run)
    else:
        transformer.disable_gradient_checkpointing()


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


def cache_first_block(transformer: Any, *, on: bool) -> None:
    """Switch diffusers' FirstBlockCache on or off.

    The blocks after the first are skipped, and what they added last time is added again, while
    the first block's output changes by less than a threshold from step to step. Fresh noise
    changes it far more, so the cache is for deterministic steps.
    """
    from diffusers.hooks import FirstBlockCacheConfig

    if on != transformer.is_cache_enabled:
        if on:
            transformer.enable_cache(FirstBlockCacheConfig(threshold=CACHE_THRESHOLD))
        else:
            transformer.disable_cache()


def unwrap(model: Any) -> Any:
    """Take the model out of a DistributedDataParallel, if it is in one."""
    return getattr(model, "module", model)


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """The transformer with one prompt and its guidance: noisy latents → their velocity.

    `empty` is the empty prompt, which classifier-free guidance leads away from, at noise levels
    up to `true_cfg_max_sigma` (arXiv 2404.07724). One denoiser draws one image: what a cache kept
    of the steps of another one is forgotten when it is made.
    """

    family: Family
    transformer: Any
    prompt: Prompt
    empty: Prompt
    guidance: float = 1.0
    true_cfg_scale: float = 1.0
    true_cfg_max_sigma: float = 1.0
    attention: str = "auto"
    references: Sequence[Tensor] = ()  # latents (1, C, h, w) of pictures to look at

    def __post_init__(self) -> None:
        if self._is_cached:
            self.transformer._reset_stateful_cache()

    @classmethod
    def of(
        cls, base: BaseModel, transformer: Any, profile: Profile, prompt: Prompt, empty: Prompt
    ) -> Denoiser:
        """A denoiser with the guidance and the attention kernel of a profile."""
        settings = profile.generate
        return cls(
            family=base.family,
            transformer=transformer,
            prompt=move_prompt(prompt, base.device),
            empty=move_prompt(empty, base.device),
            guidance=settings.guidance,
            true_cfg_scale=settings.true_cfg_scale,
            true_cfg_max_sigma=settings.true_cfg_max_sigma,
            attention=profile.model.attention,
        )

    def __call__(self, latents: Tensor, sigma: float, clean: Tensor | None = None) -> Tensor:
        """The velocity (B, C, H, W) of latents at noise level `sigma`.

        `clean` (1, 1, H, W) marks tokens that have no noise.
        """
        predicted = self._predict(latents, sigma, self.prompt, "prompt", clean)
        if self.true_cfg_scale == 1 or sigma > self.true_cfg_max_sigma:
            return predicted
        empty = self._predict(latents, sigma, self.empty, "empty", clean)
        return guide(predicted, empty, self.true_cfg_scale)

    def _predict(
        self, latents: Tensor, sigma: float, prompt: Prompt, name: str, clean: Tensor | None
    ) -> Tensor:
        context = self.transformer.cache_context(name) if self._is_cached else nullcontext()
        sigmas = torch.full((len(latents),), sigma, device=latents.device)
        with context, attention_kernel(self.attention, training=False):
            return self.family.predict(
                self.transformer,
                latents,
                sigmas,
                prompt,
                self.guidance,
                clean=clean,
                references=self.references,
            )

    @property
    def _is_cached(self) -> bool:
        return bool(getattr(self.transformer, "is_cache_enabled", False))
