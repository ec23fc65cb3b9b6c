"""Fused LoRA layers compute what PEFT's do, in the dtype of their input."""

from typing import Any

import pytest
import torch

from gridctl.bench.random_base import random_inputs
from gridctl.geometry import Grid
from gridctl.lora.adapters import add_lora, apply_adapter
from gridctl.models.flux1 import LORA_TARGETS
from gridctl.tiny.weights import ADAPTER_FILE

RANK, SCALE = 4, 3.0


def fused(transformer: Any) -> list[Any]:
    return [module for module in transformer.modules() if hasattr(module, "fused_adapter")]


@pytest.fixture
def layer(base: Any) -> Any:
    """A layer of the built-in base with a LoRA that is not zero."""
    transformer = base.load_transformer()
    add_lora(transformer, LORA_TARGETS, rank=RANK, alpha=RANK * SCALE, seed=0)
    found = fused(transformer)[0]
    with torch.no_grad():
        found.lora_B["default"].weight.normal_(generator=torch.Generator().manual_seed(1))
    return found


def peft_forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    own = type(layer)
    layer.__class__ = own.__mro__[2]
    result: torch.Tensor = layer(x)
    layer.__class__ = own
    return result


def test_all_lora_layers_are_fused(base: Any) -> None:
    from peft.tuners.lora import LoraLayer

    transformer = base.load_transformer()
    add_lora(transformer, LORA_TARGETS, rank=RANK, alpha=RANK, seed=0)
    lora = [module for module in transformer.modules() if isinstance(module, LoraLayer)]
    assert len(lora) == len(fused(transformer)) > 10


def test_the_result_and_the_gradients_are_peft_s(layer: Any) -> None:
    x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(0))
    found = []
    for forward in (lambda: layer(x), lambda: peft_forward(layer, x)):
        layer.zero_grad()
        result = forward()
        result.square().mean().backward()
        weights = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        found.append((result.detach(), *(w.grad.clone() for w in weights)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_products_are_in_bfloat16_and_weights_in_float32(layer: Any, autocast: bool) -> None:
    if not autocast:
        layer.base_layer.to(torch.bfloat16)
    x = torch.randn(5, layer.in_features, dtype=torch.float32 if autocast else torch.bfloat16)
    kept: set[torch.dtype] = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.add(tensor.dtype)
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        result = layer(x)
    result.float().square().mean().backward()
    assert result.dtype == torch.bfloat16
    assert layer.lora_A["default"].weight.grad.dtype == torch.float32
    assert kept == {torch.bfloat16}


def test_a_disabled_adapter_is_the_base(layer: Any) -> None:
    x = torch.randn(5, layer.in_features)
    assert not torch.equal(layer(x), layer.base_layer(x))
    layer.enable_adapters(False)
    assert torch.equal(layer(x), layer.base_layer(x))


def test_an_applied_adapter_draws_what_peft_s_layers_draw(base: Any) -> None:
    grid = Grid(rows=2, cols=2, cell=(64, 64))
    inputs = random_inputs(base, grid, text_tokens=16, batch=1)
    predicted = []
    for is_fused in (True, False):
        transformer = base.load_transformer()
        apply_adapter(transformer, ADAPTER_FILE, scale=0.7, fused=is_fused)
        assert bool(fused(transformer)) == is_fused
        with torch.no_grad():
            predicted.append(transformer(**inputs, return_dict=False)[0])
    torch.testing.assert_close(*predicted, rtol=1e-4, atol=1e-4)
