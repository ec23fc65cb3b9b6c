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
        """By a transformer's config.

        For 6,144 + 512 tokens FLUX.1-dev takes 86 and 31 TFLOP, FLUX.2-klein-4B 41 and 14.

        Each block has 4 D^2 weights of attention for each token, and the MLP's: FLUX.1's two
        matrices are 8 D^2, FLUX.2's gated MLP has three of `mlp_ratio` D^2. Modulations see one
        vector only.
        """
        width = config["num_attention_heads"] * config["attention_head_dim"]
        blocks = config["num_layers"] + config["num_single_layers"]
        tokens = image_tokens + text_tokens
        mlp = 3 * config["mlp_ratio"] if "mlp_ratio" in config else 8
        return cls(
            linear=blocks * 2 * (4 + mlp) * width**2 * tokens,
            attention=blocks * 4 * tokens**2 * width,
        )
