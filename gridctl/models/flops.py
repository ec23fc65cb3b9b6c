"""How much arithmetic a forward pass and a training step of FLUX's transformer are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs of one image: `linear` layers and `attention`, forward."""

    linear: float
    attention: float

    @property
    def forward(self) -> float:
        return self.linear + self.attention

    @property
    def training(self) -> float:
        """Forward and backward with a frozen base; what is recomputed does not count.

        The backward pass of a frozen linear layer is one product as large as the forward pass's,
        that of attention five products where the forward pass has two. LoRA is left out.
        """
        return self.forward + self.linear + 2.5 * self.attention

    @classmethod
    def of(cls, config: Mapping[str, Any], *, image_tokens: int, text_tokens: int) -> Flops:
        """By a transformer's config. FLUX.1-dev, 6,144 + 512 tokens: 86 and 31 TFLOP.

        Each block has 12 D^2 weights for each token; its modulations see one vector only.
        """
        width = config["num_attention_heads"] * config["attention_head_dim"]
        blocks = config["num_layers"] + config["num_single_layers"]
        tokens = image_tokens + text_tokens
        return cls(
            linear=blocks * 2 * 12 * width**2 * tokens,
            attention=blocks * 4 * tokens**2 * width,
        )
