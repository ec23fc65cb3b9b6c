"""Muon: momentum whose matrices are made orthogonal before each step.

It needs half as many steps as AdamW for the same loss on the built-in base
(docs/lab/2026-11-22-latents-and-optimizers.md). PyTorch's own Muon computes in bfloat16, which
processors without bfloat16 emulate at a quarter of the speed. This one computes in the given
type, on all matrices of one shape at once.

Source: Keller Jordan, https://kellerjordan.github.io/posts/muon (2024).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that drives singular values to 1
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For the matrices inside a network; the rest of its parameters is AdamW's."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        dtype: torch.dtype = torch.float32,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        self.dtype = dtype  # that matrices are made orthogonal in
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; every parameter must be a matrix with a gradient."""
        for group in self.param_groups:
            same_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"])  # Nesterov's
                same_shape.setdefault(parameter.shape, []).append((parameter, update))
            for shape, pairs in same_shape.items():
                updates = orthogonalize(torch.stack([update for _, update in pairs]).to(self.dtype))
                rate = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-rate)


def orthogonalize(matrices: Tensor) -> Tensor:
    """(N, R, C): the nearest orthogonal matrices, roughly: singular values of 0.7 to 1.2."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    wide: Tensor = matrices.mT if is_tall else matrices
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.mT if is_tall else wide
