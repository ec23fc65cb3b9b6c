"""LoRA layers that cost what their FLOPs cost.

PEFT multiplies the LoRA matrices in their own dtype. They are trained in float32, so its layers
copy each input to float32 and multiply there, at a tenth of a GPU's bfloat16 speed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def fuse_lora(transformer: Any, adapter_name: str) -> None:
    """Let the LoRA layers of `transformer` compute in the dtype of their input.

    The parameters stay as they are, and so do their gradients: float32 master weights.
    """
    from peft.tuners.lora import LoraLayer

    for module in transformer.modules():
        if isinstance(module, LoraLayer) and adapter_name in module.lora_A:
            layer_class: Any = type(module)
            module.__class__ = _fused(layer_class, adapter_name)


@cache
def _fused(layer_class: Any, adapter_name: str) -> Any:
    """A subclass of one of PEFT's LoRA layers with a `forward` for a single adapter."""
    if issubclass(layer_class, _FusedForward):
        return layer_class
    content = {"fused_adapter": adapter_name}
    return type(f"Fused{layer_class.__name__}", (_FusedForward, layer_class), content)


class _FusedForward:
    fused_adapter: str

    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """base(x) + scale * (x A^T) B^T; the product is added where it is computed."""
        name = self.fused_adapter
        if self.disable_adapters or self.merged or self.active_adapters != [name]:
            result: Tensor = super().forward(x, *args, **kwargs)  # type: ignore[misc]
            return result
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # once, not in each product
        result = self.base_layer(x, *args, **kwargs)
        down = F.linear(x, self.lora_A[name].weight.to(x.dtype))
        up = self.lora_B[name].weight.to(x.dtype)
        total = torch.addmm(
            result.flatten(0, -2), down.flatten(0, -2), up.t(), alpha=self.scaling[name]
        )
        return total.view(result.shape)
