"""Conditioning: what the transformer reads of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """B prompts, encoded: T5's states (B, L, D) and CLIP's pooled vector (B, P)."""

    embeds: Tensor
    pooled: Tensor

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Several as one batch."""
        return cls(
            embeds=torch.cat([part.embeds for part in parts]),
            pooled=torch.cat([part.pooled for part in parts]),
        )

    def to(self, device: torch.device) -> Conditioning:
        """The same on `device`."""
        return Conditioning(embeds=self.embeds.to(device), pooled=self.pooled.to(device))
