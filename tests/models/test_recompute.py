"""Gradient checkpointing changes memory, never gradients."""

from typing import Any

import pytest
import torch

from gridctl.lora.adapters import add_lora
from gridctl.models.attention import recompute_blocks
from gridctl.models.latents import Conditioning, predict_velocity


def gradients(base: Any, share: float, *, offload: bool = False) -> tuple[torch.Tensor, int]:
    """The LoRA's gradients, and the bytes that the forward pass kept for the backward pass."""
    transformer = base.load_transformer()
    parameters = add_lora(transformer, rank=4, alpha=4, seed=0)
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(number))
    recompute_blocks(transformer, share, offload=offload)
    generator = torch.Generator().manual_seed(0)
    prompt = Conditioning(
        embeds=torch.randn(1, 12, 128, generator=generator),
        pooled=torch.randn(1, 64, generator=generator),
    )
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        predicted = predict_velocity(
            transformer,
            torch.randn(1, 16, 16, 16, generator=generator),
            sigma=torch.tensor([0.5]),
            prompt=prompt,
            guidance=1.0,
        )
    predicted.square().mean().backward()
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    return flat, sum(kept.values())


@pytest.mark.parametrize(("share", "offload"), [(0.5, False), (1.0, False), (1.0, True)])
def test_gradients_are_the_same(base: Any, share: float, offload: bool) -> None:
    expected, everything = gradients(base, 0.0)
    found, kept = gradients(base, share, offload=offload)
    torch.testing.assert_close(found, expected)
    assert kept < everything


def test_a_larger_share_keeps_less(base: Any) -> None:
    kept = [gradients(base, share)[1] for share in (0.0, 0.25, 0.5, 1.0)]
    assert kept == sorted(kept, reverse=True)
