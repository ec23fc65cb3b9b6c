from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridctl.errors import InputError
from gridctl.lora.adapters import load_adapter, read_adapter_metadata
from gridctl.train import export_checkpoint, train
from gridctl.train.checkpoint import list_checkpoints, read_checkpoint

Make = Callable[..., Any]


def test_an_adapter_has_averaged_weights_times_alpha(make_profile: Make, tmp_path: Path) -> None:
    """With alpha 8 on rank 4 the file has twice the average of B, which is trained from zero."""
    path = tmp_path / "a.safetensors"
    options = {"train__steps": 2, "train__lora_alpha": 8.0, "train__ema": 0.5}
    result = train(make_profile(train__output=path, **options))
    _, tensors, _ = read_checkpoint(list_checkpoints(result.run_folder)[-1])
    for name, tensor in load_file(path).items():
        inner = name.removeprefix("transformer.").replace(".weight", ".default.weight")
        scale = 2 if ".lora_B." in name else 1
        assert torch.allclose(tensor, scale * tensors[f"ema.{inner}"])
        assert not torch.allclose(tensor, scale * tensors[inner])


@pytest.mark.parametrize(("ema", "alpha"), [(0.0, 8.0), (0.9, None)])
def test_a_checkpoint_is_an_adapter(
    make_profile: Make, tmp_path: Path, ema: float, alpha: float | None
) -> None:
    """The last checkpoint holds what the run exported; an earlier one what it would have."""
    path, short = tmp_path / "a.safetensors", tmp_path / "short.safetensors"
    options = {"train__ema": ema, "train__lora_alpha": alpha, "train__checkpoint_every": 1}
    profile = make_profile(train__output=path, train__steps=2, **options)
    train(profile)
    train(make_profile(train__output=short, train__steps=1, **options))
    for step, wanted in ((1, short), (2, path)):
        exported = export_checkpoint(profile, step)
        assert exported == tmp_path / f"a-00000{step}.safetensors"
        stored, expected = load_file(exported), load_file(wanted)
        assert stored.keys() == expected.keys()
        assert all(torch.equal(stored[name], expected[name]) for name in stored)
        metadata = read_adapter_metadata(exported)
        assert metadata is not None
        assert metadata.steps == step
        straight = load_adapter(path.with_suffix(".run") / f"step-00000{step}.safetensors")
        assert all(torch.equal(straight[name], expected[name]) for name in expected)
    with pytest.raises(InputError, match="exists and is not overwritten"):
        export_checkpoint(profile, 1)
    with pytest.raises(InputError, match="no checkpoint of step 7; it has 1, 2"):
        export_checkpoint(profile, 7)


def test_without_a_checkpoint_nothing_is_exported(make_profile: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoint"):
        export_checkpoint(make_profile(train__output=tmp_path / "a.safetensors"), None)


def test_an_adapter_with_nan_is_refused(adapter: Path, tmp_path: Path) -> None:
    stored = load_file(adapter)
    name = next(iter(stored))
    stored[name][0, 0] = float("nan")
    broken = tmp_path / "broken.safetensors"
    save_file(stored, broken)
    with pytest.raises(InputError, match="not finite numbers"):
        load_adapter(broken)
