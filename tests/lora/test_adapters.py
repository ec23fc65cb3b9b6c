from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.lora.adapters import (
    AdapterMetadata,
    add_lora,
    apply_adapter,
    lora_tensors,
    read_adapter_metadata,
    save_adapter,
)
from gridctl.models.flux1 import LORA_TARGETS, predict

pytestmark = pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")

FACTS = AdapterMetadata(
    grid=Grid(rows=2, cols=3, cell=(32, 48), order="serpentine"),
    layout="{rows}x{cols} Gitter in {order}:",
    fps=12.5,
    base="tiny",
    steps=3,
    profile='grid.rows = 2\ncaption.subject = "ein Bär"\n',
)


def velocity_of(transformer: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return predict(
            transformer,
            torch.randn(1, 64, 4, 6, generator=generator),
            sigma=torch.tensor([0.7]),
            prompt={
                "embeds": torch.randn(1, 64, 128, generator=generator),
                "pooled": torch.randn(1, 64, generator=generator),
            },
            guidance=1.0,
        )


def trained(base: Any, *, rank: int, alpha: float) -> Any:
    """A transformer whose LoRA is as if trained: B is no longer zero."""
    transformer = base.load_transformer(training=True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in add_lora(transformer, LORA_TARGETS, rank=rank, alpha=alpha, seed=0):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return transformer


def test_lora_layers_alone_train_and_in_float32(base: Any) -> None:
    half = replace(base, dtype=torch.bfloat16)
    transformer = half.load_transformer(training=True)
    before = velocity_of(base.load_transformer())
    parameters = add_lora(transformer, LORA_TARGETS, rank=4, alpha=4, seed=0)
    named = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    assert len(parameters) == len(named) == len(lora_tensors(transformer))
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in named.items())
    frozen = [p for n, p in transformer.named_parameters() if "lora_" not in n]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    layers = {name.split(".lora_")[0] for name in named}
    # Nothing outside the blocks (embedders, the final norm_out and proj_out), no modulation.
    assert all(name.split(".")[0].endswith("transformer_blocks") for name in layers)
    assert not [name for name in layers if "norm" in name or "embed" in name]
    double = {n.split(".", 2)[2] for n in layers if n.startswith("transformer_blocks.0.")}
    single = {n.split(".", 2)[2] for n in layers if n.startswith("single_transformer_blocks.0.")}
    qkv = {"attn.to_q", "attn.to_k", "attn.to_v"}
    assert single == qkv | {"proj_mlp", "proj_out"}
    assert double == qkv | {
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_out.0",
        "attn.to_add_out",
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
    }
    # B starts at zero, so an untrained LoRA changes nothing.
    whole = base.load_transformer()
    add_lora(whole, LORA_TARGETS, rank=4, alpha=4, seed=0)
    assert torch.equal(velocity_of(whole), before)


def test_the_first_weights_are_the_seeds_and_disturb_no_other_chance(base: Any) -> None:
    def first(seed: int) -> torch.Tensor:
        transformer = base.load_transformer()
        add_lora(transformer, LORA_TARGETS, rank=2, alpha=2, seed=seed)
        return next(iter(lora_tensors(transformer).values())).detach()

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    a, b, c = first(1), first(1), first(2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(("rank", "alpha"), [(4, 4.0), (4, 10.0), (8, 2.0)])
def test_the_file_is_the_trained_transformer_to_diffusers_and_to_us(
    base: Any, transformer: Any, tmp_path: Path, rank: int, alpha: float
) -> None:
    path = tmp_path / "a.safetensors"
    model = trained(base, rank=rank, alpha=alpha)
    wanted = velocity_of(model)
    save_adapter(path, lora_tensors(model), FACTS, scale=alpha / rank)
    plain = velocity_of(transformer)
    assert float((wanted - plain).abs().max()) > 1e-2

    pipeline = FluxPipeline.from_pretrained(
        base.folder,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        vae=None,
        torch_dtype=torch.float32,
    )
    pipeline.load_lora_weights(str(path))
    assert torch.allclose(velocity_of(pipeline.transformer), wanted, atol=1e-4, rtol=1e-4)

    ours = base.load_transformer()
    apply_adapter(ours, path)
    assert torch.allclose(velocity_of(ours), wanted, atol=1e-4, rtol=1e-4)


def test_the_scale_goes_from_the_base_to_the_adapter(
    base: Any, transformer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    model = trained(base, rank=4, alpha=4)
    save_adapter(path, lora_tensors(model), FACTS, scale=1.0)
    off, half = base.load_transformer(), base.load_transformer()
    apply_adapter(off, path, scale=0.0)
    apply_adapter(half, path, scale=0.5)
    plain, full = velocity_of(transformer), velocity_of(model)
    assert torch.equal(velocity_of(off), plain)
    assert not torch.allclose(velocity_of(half), plain, atol=1e-3)
    assert not torch.allclose(velocity_of(half), full, atol=1e-3)


def test_names_are_those_of_diffusers(base: Any, tmp_path: Path) -> None:
    model = trained(base, rank=2, alpha=2)
    save_adapter(tmp_path / "ours.safetensors", lora_tensors(model), FACTS, scale=1.0)
    FluxPipeline.save_lora_weights(tmp_path, get_peft_model_state_dict(model))
    ours = load_file(tmp_path / "ours.safetensors")
    theirs = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_facts_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(path, {"x.lora_A.default.weight": torch.zeros(1)}, FACTS, scale=1.0)
    assert read_adapter_metadata(path) == FACTS
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["gridctl"].isascii()
    assert metadata["modelspec.sai_model_spec"] == "1.0.1"


def test_equal_adapters_are_equal_files(tmp_path: Path) -> None:
    """safetensors alone would write the header's entries in any order."""
    contents = set()
    for number in range(8):
        path = tmp_path / str(number) / "a.safetensors"
        save_adapter(path, {"x.lora_A.default.weight": torch.zeros(1)}, FACTS, scale=1.0)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_an_adapter_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="--force"):
        save_adapter(path, {}, FACTS, scale=1.0)
    assert path.read_bytes() == b"precious"


def test_a_lora_from_elsewhere_has_no_facts(tmp_path: Path) -> None:
    save_file({"transformer.x.lora_A.weight": torch.zeros(1)}, tmp_path / "b.safetensors")
    assert read_adapter_metadata(tmp_path / "b.safetensors") is None


@pytest.mark.parametrize("header", ["{", "[]", '{"rows": 2}', '{"cell": 3}'])
def test_damaged_facts_are_one_line(tmp_path: Path, header: str) -> None:
    path = tmp_path / "b.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"gridctl": header})
    with pytest.raises(InputError, match=r"b\.safetensors is not an adapter") as error:
        read_adapter_metadata(path)
    assert "\n" not in str(error.value)


def test_no_safetensors_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    with pytest.raises(InputError, match="is not there"):
        read_adapter_metadata(path)
    path.write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(InputError, match="is not an adapter") as error:
        read_adapter_metadata(path)
    assert "\n" not in str(error.value)


def test_an_adapter_for_another_shape_is_refused(base: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = trained(base, rank=2, alpha=2)
    wide = {n: torch.zeros(s.shape[0] + 1, s.shape[1] + 1) for n, s in lora_tensors(model).items()}
    save_adapter(path, wide, FACTS, scale=1.0)
    with pytest.raises(UsageError, match="does not fit the base model") as error:
        apply_adapter(base.load_transformer(), path)
    assert "\n" not in str(error.value)


def test_a_file_without_lora_layers_is_refused(base: Any, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_file({"weight": torch.zeros(2, 2)}, path)
    with pytest.raises(UsageError, match="holds no LoRA"):
        apply_adapter(base.load_transformer(), path)


def test_weights_are_stored_as_asked(transformer: Any, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    weights = {"proj_mlp.lora_A.default.weight": torch.full((2, 4), 0.1)}
    save_adapter(path, weights, FACTS, scale=1.0, dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
