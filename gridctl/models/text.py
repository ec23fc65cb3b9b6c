"""FLUX's text encoders: prompts → conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridctl.models.latents import Conditioning


@dataclass(frozen=True, kw_only=True)
class Tokenizers:
    """FLUX's two tokenizers.

    Prompts are padded to `text_tokens` T5 tokens. FLUX attends to the padding, so training,
    caches and sampling must use the same length.
    """

    clip_tokenizer: Any
    t5_tokenizer: Any
    text_tokens: int

    def lost_words(self, prompt: str) -> str:
        """The end of `prompt` that T5 cuts off because it is too long; usually empty."""
        kept = self.t5_tokenizer(prompt, max_length=self.text_tokens, truncation=True).input_ids
        whole = self.t5_tokenizer(prompt).input_ids
        return str(self.t5_tokenizer.decode(whole[len(kept) - 1 :], skip_special_tokens=True))


@dataclass(frozen=True, kw_only=True)
class TextEncoders(Tokenizers):
    """FLUX's two text encoders with their tokenizers."""

    clip: Any
    t5: Any

    def __call__(self, prompts: Sequence[str]) -> Conditioning:
        """N prompts → T5's states (N, text_tokens, D) and CLIP's pooled vector (N, P)."""
        t5_ids = self._ids(self.t5_tokenizer, prompts, self.text_tokens)
        embeds = self.t5(t5_ids.to(self.t5.device)).last_hidden_state
        return Conditioning(embeds=embeds, pooled=self.vector(prompts))

    def vector(self, prompts: Sequence[str]) -> Tensor:
        """N prompts → CLIP's pooled vector alone, (N, P)."""
        ids = self._ids(self.clip_tokenizer, prompts, self.clip_tokenizer.model_max_length)
        pooled: Tensor = self.clip(ids.to(self.clip.device)).pooler_output
        return pooled

    @staticmethod
    def _ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
        return torch.as_tensor(
            tokenizer(
                list(prompts), padding="max_length", max_length=length, truncation=True
            ).input_ids
        )
