"""Training on shards is training on the folder that they were made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gridctl.dataset.shards import ShardFormat, plan_shards, write_shard
from gridctl.train import train


@pytest.mark.parametrize("format", ["webdataset", pytest.param("parquet", marks=pytest.mark.slow)])
def test_shards_train_to_the_weights_of_their_folder(
    make_profile: Callable[..., Any], dataset: Path, tmp_path: Path, format: ShardFormat
) -> None:
    shards = tmp_path / "shards"
    for shard in plan_shards(dataset, shards, format, 10**8):
        write_shard(shard)
    weights = []
    for data in (dataset, shards):
        path = tmp_path / f"{data.name}.safetensors"
        train(make_profile(train__data=data, train__output=path, train__steps=2))
        weights.append(load_file(path))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
