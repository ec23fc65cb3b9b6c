"""Adapters of FLUX.2-klein: every naming, diffusers' own loader, and FLUX.1's told apart."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.lora.adapters import (
    AdapterMetadata,
    add_lora,
    apply_adapter,
    check_start,
    lora_tensors,
    read_lora,
    save_adapter,
)
from gridctl.lora.klein import FLUX_1, KLEIN, find_lora_family
from gridctl.models import flux1, flux2
from tests.klein import WIDTH, make_transformer

METADATA = AdapterMetadata(
    grid=Grid(rows=2, cols=3, cell=(32, 32)),
    layout="video",
    fps=8.0,
    base="black-forest-labs/FLUX.2-klein-base-4B",
    steps=2,
    profile="",
)
LAYERS = 12 + 2 * 2


def make_plain() -> Any:
    torch.manual_seed(5)
    return make_transformer().requires_grad_(False).eval()


def predict(transformer: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 128, 2, 3, generator=generator)
    prompt = {"embeds": torch.randn(1, 5, 3 * WIDTH, generator=generator)}
    with torch.inference_mode():
        return flux2.predict(transformer, latents, torch.tensor([0.5]), prompt, 1.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """An adapter on every layer, and what its transformer predicts."""
    transformer = make_plain()
    plain = predict(transformer)
    add_lora(transformer, flux2.LORA_TARGETS, rank=4, alpha=8, seed=0)
    tensors = lora_tensors(transformer)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if ".lora_B." in name:
                tensor.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    path = tmp_path_factory.mktemp("klein") / "adapter.safetensors"
    save_adapter(path, tensors, METADATA, scale=2.0)
    predicted = predict(transformer)
    assert not torch.allclose(predicted, plain, atol=0.01)
    return path, predicted


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What diffusers and PEFT warn of."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("diffusers", "peft")]
    for logger in loggers:
        logger.addHandler(handler)
    yield found
    for logger in loggers:
        logger.removeHandler(handler)


def test_an_adapter_is_on_every_linear_of_every_block(trained: tuple[Path, Tensor]) -> None:
    lora = read_lora(trained[0])
    linears = {
        name
        for name, layer in make_plain().named_modules()
        if isinstance(layer, torch.nn.Linear) and "transformer_blocks." in name
    }
    assert set(lora.pairs) == linears
    assert (lora.family, lora.naming, len(linears)) == (KLEIN, "diffusers", LAYERS)
    assert lora.metadata["modelspec.architecture"] == "flux-2-klein-4b/lora"


def test_diffusers_loads_it_without_a_warning(
    trained: tuple[Path, Tensor], klein: Path, warned: list[str]
) -> None:
    pipeline = Flux2KleinPipeline.from_pretrained(
        klein, transformer=make_plain(), text_encoder=None, tokenizer=None
    )
    warned.clear()
    pipeline.load_lora_weights(trained[0])
    assert warned == []
    assert torch.allclose(predict(pipeline.transformer), trained[1], atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_applied_as_it_was_trained(trained: tuple[Path, Tensor], fused: bool) -> None:
    transformer = make_plain()
    applied = apply_adapter(transformer, trained[0], fused=fused)
    assert str(applied) == "loaded 32 of 32 tensors"
    assert torch.allclose(predict(transformer), trained[1], atol=1e-5)


BFL = {
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.linear_in": "img_mlp.0",
    "ff.linear_out": "img_mlp.2",
    "ff_context.linear_in": "txt_mlp.0",
    "ff_context.linear_out": "txt_mlp.2",
}
QKV = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}


def in_bfl_names(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The same updates under black-forest-labs' names, queries, keys and values as one layer."""
    tensors = load_file(path)

    def pair(module: str) -> tuple[Tensor, Tensor]:
        stem = f"transformer.{module}.lora"
        return tensors[f"{stem}_A.weight"], tensors[f"{stem}_B.weight"]

    layers = {
        f"double_blocks.0.{own}": pair(f"transformer_blocks.0.{theirs}")
        for theirs, own in BFL.items()
    }
    for own, parts in QKV.items():
        downs, ups = zip(*(pair(f"transformer_blocks.0.{part}") for part in parts), strict=True)
        layers[f"double_blocks.0.{own}"] = torch.cat(downs), torch.block_diag(*ups)
    for number in (0, 1):
        block = f"single_transformer_blocks.{number}.attn"
        layers[f"single_blocks.{number}.linear1"] = pair(f"{block}.to_qkv_mlp_proj")
        layers[f"single_blocks.{number}.linear2"] = pair(f"{block}.to_out")
    return layers


def named(layers: dict[str, tuple[Tensor, Tensor]], naming: str) -> dict[str, Tensor]:
    """A file's tensors; kohya's alpha is half the rank, and its matrices twice as large."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in layers.items():
        if naming == "kohya":
            stem = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{stem}.lora_down.weight"] = down.contiguous()
            tensors[f"{stem}.lora_up.weight"] = 2 * up.contiguous()
            tensors[f"{stem}.alpha"] = torch.tensor(down.shape[0] / 2)
        else:
            tensors[f"diffusion_model.{name}.lora_A.weight"] = down.contiguous()
            tensors[f"diffusion_model.{name}.lora_B.weight"] = up.contiguous()
    return tensors


@pytest.mark.parametrize("naming", ["kohya", "black-forest-labs"])
def test_other_tools_names_are_read(
    trained: tuple[Path, Tensor], tmp_path: Path, naming: str
) -> None:
    path = tmp_path / "other.safetensors"
    save_file(named(in_bfl_names(trained[0]), naming), path)
    lora = read_lora(path)
    assert (lora.family, lora.naming, len(lora.pairs)) == (KLEIN, naming, LAYERS)
    assert lora.unused(lora.pairs) == ()
    transformer = make_plain()
    apply_adapter(transformer, path)
    assert torch.allclose(predict(transformer), trained[1], atol=1e-4)


def test_layers_that_diffusers_does_not_know_are_unused(
    trained: tuple[Path, Tensor], tmp_path: Path
) -> None:
    layers = in_bfl_names(trained[0])
    down, up = layers["double_blocks.0.img_attn.proj"]
    layers["double_blocks.0.img_nothing.3"] = down.clone(), up.clone()
    save_file(named(layers, "comfyui"), tmp_path / "more.safetensors")
    lora = read_lora(tmp_path / "more.safetensors")
    assert len(lora.pairs) == LAYERS
    assert all("img_nothing" in name for name in lora.unused(lora.pairs))
    assert len(lora.unused(lora.pairs)) == 2


def test_an_adapter_of_the_other_family_is_refused(
    trained: tuple[Path, Tensor], adapter: Path, transformer: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"is a LoRA for FLUX\.1, and the base") as error:
        apply_adapter(make_plain(), adapter)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"is a LoRA for FLUX\.2-klein, and the base") as error:
        apply_adapter(transformer, trained[0])
    assert "\n" not in str(error.value)


def test_training_starts_from_the_same_family_alone(
    trained: tuple[Path, Tensor], adapter: Path
) -> None:
    assert (flux1.NAME, flux2.NAME) == (FLUX_1, KLEIN)
    check_start(trained[0], KLEIN, flux2.LORA_TARGETS, rank=4)
    with pytest.raises(UsageError, match=r"is a LoRA for FLUX\.2-klein"):
        check_start(trained[0], FLUX_1, flux1.LORA_TARGETS, rank=4)
    with pytest.raises(UsageError, match=r"is a LoRA for FLUX\.1"):
        check_start(adapter, KLEIN, flux2.LORA_TARGETS, rank=4)


@pytest.mark.parametrize(
    ("name", "rows", "columns", "family"),
    [
        ("transformer_blocks.0.attn.to_q", 8, 8, None),
        ("double_blocks.0.img_attn.qkv", 24, 8, None),
        ("proj_out", 8, 8, None),
        ("norm_out.linear", 16, 8, None),
        ("transformer_blocks.0.ff.linear_in", 48, 8, KLEIN),
        ("transformer_blocks.0.ff.net.0.proj", 32, 8, FLUX_1),
        ("single_transformer_blocks.3.attn.to_out", 8, 32, KLEIN),
        ("single_transformer_blocks.3.proj_out", 8, 40, FLUX_1),
        ("single_transformer_blocks.3.attn.to_q", 8, 8, FLUX_1),
        ("single_blocks.3.linear1", 72, 8, KLEIN),
        ("single_blocks_3_linear1", 56, 8, FLUX_1),
        ("single_blocks.3.linear2", 8, 32, KLEIN),
        ("single_blocks_3_linear2", 8, 40, FLUX_1),
        ("double_blocks.0.txt_mlp.0", 48, 8, KLEIN),
        ("double_blocks_0_txt_mlp_0", 32, 8, FLUX_1),
        ("double_blocks.0.img_mlp.2", 8, 24, KLEIN),
        ("double_blocks_0_img_mlp_2", 8, 32, FLUX_1),
    ],
)
def test_a_family_is_known_by_layers_of_its_own(
    name: str, rows: int, columns: int, family: str | None
) -> None:
    assert find_lora_family([(name, rows, columns)]) == family
