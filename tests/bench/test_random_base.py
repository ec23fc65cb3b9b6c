"""The random base and its bare steps."""

from pathlib import Path

import pytest
import torch

from gridctl.bench.random_base import make_base, make_models
from gridctl.models.base import open_base
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
    assert not torch.equal(one.pooled, other.pooled)
    with base.vae() as vae:
        config = vae.config
        assert (config.scaling_factor, config.shift_factor) == (0.3611, 0.1159)


def test_the_full_base_has_the_size_of_flux_dev() -> None:
    billions = {
        part: sum(p.numel() for p in model.parameters()) / 1e9
        for part, (model, _, _) in make_models("full").items()
    }
    expected = {"transformer": 11.90, "vae": 0.084, "text_encoder": 0.123, "text_encoder_2": 4.76}
    assert billions == pytest.approx(expected, rel=0.01)
