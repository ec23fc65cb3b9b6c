"""LoRA on a base with 8-bit weights, by torchao. It computes on a CPU what it does on a GPU."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from gridctl.lora.adapters import add_lora
from gridctl.models.base import open_base
from gridctl.models.flux1 import LORA_TARGETS
from gridctl.train import Stopped, train

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def exact(make_profile: Make, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses on the base as it is."""
    path = tmp_path_factory.mktemp("exact") / "a.safetensors"
    return losses(train(make_profile(train__output=path, train__steps=4)).run_folder)


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("int8", 0.02), pytest.param("fp8", 0.05, marks=pytest.mark.slow)],
)
def test_a_quantised_base_trains_and_resumes(
    make_profile: Make, exact: list[float], tmp_path: Path, kind: str, tolerance: float
) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    options = {"train__steps": 4, "memory__quantize": kind, "train__preserve_weight": 1e-12}
    options |= {"memory__gradient_checkpointing": True}
    folder = train(make_profile(train__output=whole, **options)).run_folder
    assert losses(folder) == pytest.approx(exact, rel=tolerance)
    assert losses(folder) != pytest.approx(exact, rel=1e-5)  # the weights were rounded

    def stop(done: int, total: int, text: str) -> None:
        if "loss" in text and done == 1:
            signal.raise_signal(signal.SIGINT)

    profile = make_profile(train__output=parts, **options)
    with pytest.raises(Stopped):
        train(profile, progress=stop)
    assert train(profile).resumed_at == 2
    mine, theirs = load_file(parts), load_file(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_only_the_lora_of_a_quantised_base_is_trained(make_profile: Make, kind: str) -> None:
    """Its linear layers take a byte a weight; all LoRA layers compute in their input's dtype."""
    from peft.tuners.lora import LoraLayer

    transformer = open_base(make_profile(memory__quantize=kind)).load_transformer(training=True)
    layer = transformer.single_transformer_blocks[0].proj_mlp
    stored = layer.weight.qdata
    assert (stored.dtype.itemsize, stored.numel()) == (1, layer.in_features * layer.out_features)
    parameters = add_lora(transformer, LORA_TARGETS, rank=4, alpha=4, seed=0)
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    layers = [module for module in transformer.modules() if isinstance(module, LoraLayer)]
    assert len(parameters) == 2 * len(layers)
    assert all(hasattr(module, "fused_adapter") for module in layers)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_quantised_base_is_cached_to_the_bit(
    make_profile: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The second load reads the entry. A damaged entry and want of room cost time only."""
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    base = open_base(make_profile(memory__quantize=kind))

    def entries() -> dict[Path, float]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/bases/*/*/*")}

    made = stored_bytes(base.load_transformer(training=True))
    first = entries()
    weights = next(path for path in first if path.suffix == ".safetensors")
    assert made == stored_bytes(base.load_transformer(training=True))
    assert entries() == first
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert made == stored_bytes(base.load_transformer(training=True))
    assert entries()[weights] != first[weights]
    shutil.rmtree(tmp_path / "cache")
    disk, memory = shutil.disk_usage(tmp_path), psutil.virtual_memory()
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: disk._replace(free=10_000))
        assert made == stored_bytes(base.load_transformer(training=True))
    with monkeypatch.context() as full:
        full.setattr(psutil, "virtual_memory", lambda: memory._replace(available=10_000))
        assert made == stored_bytes(base.load_transformer(training=True))
    assert not entries()


def test_only_one_process_and_version_keeps_a_base(
    make_profile: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path))
    base = open_base(make_profile(memory__quantize="int8"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    base.load_transformer()
    assert not list(tmp_path.glob("bases/*/*"))
    monkeypatch.setenv("LOCAL_RANK", "0")
    base.load_transformer()
    (entry,) = tmp_path.glob("bases/*/*")
    older = entry.rename(entry.with_name("0.1-0.2"))
    being_written = entry.with_name(".0.3-0.4.otherhost.1.tmp")
    being_written.mkdir()
    base.load_transformer()
    assert {path.name for path in entry.parent.iterdir()} == {entry.name, being_written.name}
    assert not older.exists()


def stored_bytes(transformer: Any) -> dict[str, bytes]:
    """What each parameter is stored as: that of a quantised one is several tensors."""
    stored = {}
    for name, parameter in transformer.named_parameters():
        inner = getattr(parameter, "tensor_data_names", None) or []
        for part in inner or [""]:
            tensor = getattr(parameter, part) if part else parameter
            stored[f"{name} {part}"] = tensor.detach().contiguous().view(torch.uint8).numpy()
    return {name: array.tobytes() for name, array in stored.items()}
