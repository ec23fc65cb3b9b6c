"""The protocol of a family of base models: everything that differs between architectures.

A family is a module with these names (`flux1`, `flux2`); `hub.FAMILIES` lists them. Latents are
what a token holds, (B, C, H/16, W/16). A prompt is a dict of named tensors, B first in each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gridctl.errors import GridctlError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Prompt = dict[str, "Tensor"]
EncodeText = Callable[[Sequence[str]], Prompt]  # N prompts → their tensors, N first
# (class of transformers, sub-folder, whether model.text_quantize is for it) → the loaded encoder
LoadEncoder = Callable[[Any, str, bool], Any]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes that are known before a model is downloaded; memory and disk in GiB.

    Of the text encoders' weights, transformers quantises `text_linear` and leaves `text_other`.
    `caption_gib` is what one caption of `text_tokens` takes while it is encoded. `offloaded_gib`
    waits in main memory if layers are offloaded, by memory.quantize.
    """

    download_gib: int
    offloaded_gib: Mapping[str, int]
    text_linear: float
    text_other: float
    text_tokens: int
    caption_gib: float


class Family(Protocol):
    """Names and functions of a module that describes a family."""

    NAME: str  # for messages
    HUB_NAME: str  # a part of the Hub ids of its models
    GATED: tuple[str, ...]  # Hub ids that begin so need an accepted licence and a token
    TRAINABLE: str  # the model to train on if another one is distilled
    TRANSFORMER: str  # classes in diffusers
    VAE: str
    TEXT_FOLDERS: tuple[str, ...]  # sub-folders that decide an encoded prompt
    BLOCK_COUNTS: tuple[str, ...]  # keys of the transformer's config, in the order of its blocks
    TRANSFORMER_CONFIG: Mapping[str, Any]  # before it is downloaded
    TRAINING_GUIDANCE: float
    SIZES: Sizes
    TAKES_REFERENCES: bool  # whether `predict` reads reference pictures
    LORA_TARGETS: str  # pattern of the block linears that are trained

    def check(self, name: str, folder: Path | None) -> None:
        """Raise UsageError for a model of this pipeline that cannot be used: by its files or name.

        Nothing is known of the files if `folder` is None.
        """

    def is_distilled(self, name: str, folder: Path | None) -> bool:
        """Whether a model was distilled to a few steps: by its files, or by its name without."""

    def takes_guidance(self, config: Mapping[str, Any]) -> bool:
        """Whether a transformer with this config reads a guidance scale."""

    def mu(self, scheduler: Mapping[str, Any], tokens: int, steps: int | None) -> float:
        """The shift of the sigmas for `tokens` image tokens: to sample in `steps`, or to train."""

    def text_limits(self, folder: Path | None, text_tokens: int | None) -> TextLimits:
        """Token limits, by the model's tokenizers if they are in `folder`."""

    def load_text(self, folder: Path, text_tokens: int | None, load: LoadEncoder) -> EncodeText:
        """Load tokenizers and text encoders."""

    def to_latents(self, vae: Any, codes: Tensor) -> Tensor:
        """What the VAE's encoder gives, (B, c, H/8, W/8) → latents."""

    def to_codes(self, vae: Any, latents: Tensor) -> Tensor:
        """Latents → what the VAE's decoder takes; undoes `to_latents`."""

    def draw_noise(
        self, config: Mapping[str, Any], height: int, width: int, generator: torch.Generator
    ) -> Tensor:
        """Noise (1, C, height, width) in tokens, for a transformer with this config."""

    def blocks(self, transformer: Any) -> list[Any]:
        """The transformer's blocks, in the order in which they run."""

    def inputs(
        self,
        config: Mapping[str, Any],
        *,
        batch: int,
        height: int,
        width: int,
        text_tokens: int,
        device: Any,
        dtype: torch.dtype,
    ) -> dict[str, Any]:
        """Random inputs of a transformer with this config: planner and benchmarks need no more."""

    def predict(
        self,
        transformer: Any,
        latents: Tensor,
        sigma: Tensor,
        prompt: Prompt,
        guidance: float,
        clean: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """The velocity of latents (B, C, H, W) at noise levels (B,), of the same shape.

        `clean` (B, 1, H, W) marks tokens that have no noise, whatever `sigma` says. `references`
        (B, C, h, w) are latents of pictures to look at, for a family with TAKES_REFERENCES.
        """


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of prose from above: one per three letters and per other character."""
    count = 2  # start and end tokens
    for word in re.findall(r"[A-Za-z]+|\S", text):
        count += -(-len(word) // 3)
    return count


@dataclass(frozen=True, kw_only=True)
class TokenLimit:
    """The number of tokens that a text encoder reads, and its tokenizer.json to count them.

    Without the file, tokens are estimated, rather too many than too few, so that training never
    cuts a caption off.
    """

    encoder: str  # for messages
    tokens: int
    file: Path | None = None

    def __str__(self) -> str:
        return f"{self.tokens} tokens that {self.encoder} reads"

    def count(self, text: str) -> int:
        """Count the tokens of `text`, special ones included."""
        return len(self._tokenizer.encode(text)) if self.file else estimate_tokens(text)

    def fits(self, text: str) -> bool:
        return self.count(text) <= self.tokens

    def unread(self, text: str) -> str:
        """The end of `text` that is cut off; empty if all of it is read, or if nobody knows."""
        if self.fits(text) or self.file is None:
            return ""
        encoded = self._tokenizer.encode(text)
        start: int = encoded.offsets[self.tokens - 1][0]  # the last place is the end token's
        return text[start:].strip()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self.file))
        except Exception as error:  # the library raises nothing narrower
            raise GridctlError(
                f"{self.file} is not a tokenizer ({error}); download the model again."
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


@dataclass(frozen=True, kw_only=True)
class TextLimits:
    """Token limits of a base: of the whole prompt, and of its opening.

    The opening is the layout prompt and the subject: every encoder must read them.
    """

    whole: TokenLimit
    opening: TokenLimit
