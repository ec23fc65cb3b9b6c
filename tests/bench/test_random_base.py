"""The random base and its bare steps."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gridctl.bench.random_base import (
    bare_step,
    make_base,
    random_inputs,
    write_random,
)
from gridctl.geometry import Grid
from gridctl.models.base import open_base
from gridctl.models.flux1 import meta_parts
from gridctl.models.hub import file_hash
from gridctl.profile import load_profile


@pytest.mark.parametrize("shard_bytes", [20_000, 2**30])
def test_a_random_base_loads_as_flux(tmp_path: Path, shard_bytes: int) -> None:
    folder = make_base(tmp_path / "base", "small", device="cpu", shard_bytes=shard_bytes)
    values = {"model.base": str(folder), "memory.device": "cpu"}
    base = open_base(load_profile(None, values).profile)
    transformer = base.load_transformer()
    weights = sorted((folder / "transformer").glob("*.safetensors"))
    assert (len(weights) > 1) == (shard_bytes < 2**30)
    assert all(file_hash(path) == path.resolve().name for path in weights)  # not read
    assert all(p.isfinite().all() and p.device.type == "cpu" for p in transformer.parameters())
    with base.text_encoders() as encode:
        assert encode.text_tokens == 32
        one, other = encode(["a red circle"]), encode(["a blue square"])
    assert not torch.equal(one["pooled"], other["pooled"])
    with base.vae() as vae:
        config = vae.vae.config
        assert (config.scaling_factor, config.shift_factor) == (0.3611, 0.1159)


def test_the_full_base_has_the_size_of_flux_dev() -> None:
    billions = {
        part: sum(p.numel() for p in model.parameters()) / 1e9
        for part, (model, _, _) in meta_parts("full").items()
    }
    expected = {"transformer": 11.90, "vae": 0.084, "text_encoder": 0.123, "text_encoder_2": 4.76}
    assert billions == pytest.approx(expected, rel=0.01)


def test_weights_begin_as_those_of_pytorch(tmp_path: Path) -> None:
    shapes = {"conv.weight": (64, 8, 3, 3), "norm.weight": (7,), "norm.bias": (7,)}
    write_random(tmp_path / "a", shapes, 1, "cpu")
    write_random(tmp_path / "b", shapes, 2, "cpu")
    tensors, others = load_file(tmp_path / "a"), load_file(tmp_path / "b")
    # Uniform within 1 / sqrt(72): its standard deviation is 1 / sqrt(3 x 72).
    assert tensors["conv.weight"].float().std().item() == pytest.approx((3 * 72) ** -0.5, rel=0.05)
    assert tensors["norm.weight"].tolist() == [1] * 7
    assert tensors["norm.bias"].tolist() == [0] * 7
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert not torch.equal(tensors["conv.weight"], others["conv.weight"])


def test_an_index_counts_the_bytes_of_all_shards(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", "small", device="cpu", shard_bytes=20_000) / "transformer"
    (path,) = folder.glob("*.index.json")
    index = json.loads(path.read_text())
    shards = [load_file(shard) for shard in folder.glob("*.safetensors")]
    sizes = [2 * tensor.numel() for shard in shards for tensor in shard.values()]
    assert index["metadata"]["total_size"] == sum(sizes)
    assert len(index["weight_map"]) == len(sizes)


class Scaled(torch.nn.Module):
    """The simplest transformer: its input times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, hidden_states: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        assert not return_dict
        return (hidden_states * self.weight,)


def test_a_bare_step_by_hand() -> None:
    model = Scaled()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    inputs = {"hidden_states": torch.full((2, 4), 10.0)}
    bare_step(model, model.parameters(), optimizer, inputs, grad=False)
    assert model.weight.item() == 3
    # The loss is (10 w)^2, its gradient 200 w, which is cut to a norm of 1.
    bare_step(model, model.parameters(), optimizer, inputs, grad=True)
    assert model.weight.item() == pytest.approx(2.5)
    assert model.weight.grad is None
    inputs = {"hidden_states": torch.full((2, 4), 0.1)}
    bare_step(model, model.parameters(), optimizer, inputs, grad=True)
    assert model.weight.item() == pytest.approx(2.5 - 0.5 * 2 * 0.01 * 2.5, rel=1e-4)


def test_random_inputs_fit_the_transformer(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", "small", device="cpu")
    values = {"model.base": str(folder), "memory.device": "cpu"}
    base = open_base(load_profile(None, values).profile)
    grid = Grid(rows=1, cols=2, cell=(32, 48))
    inputs = random_inputs(base, grid, 5, 3)
    assert inputs["hidden_states"].shape == (3, 2 * 2 * 3, 64)
    assert inputs["encoder_hidden_states"].shape == (3, 5, 64)
    with torch.no_grad():
        (predicted,) = base.load_transformer()(**inputs, return_dict=False)
    assert predicted.shape == (3, 12, 64)
