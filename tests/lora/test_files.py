"""LoRA files as other tools write them, on random matrices for the built-in base."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import save_file
from torch import Tensor

from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.lora.adapters import apply_adapter, read_lora
from gridctl.lora.files import find_layer, find_module, layer_of

RANK, WIDTH = 4, 160
LAYERS = [
    *(f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_k", "to_v")),
    "transformer_blocks.1.attn.to_out.0",
    "single_transformer_blocks.2.attn.to_k",
]


def peft(layers: list[str] = LAYERS, rank: int = RANK, width: int = WIDTH) -> dict[str, Tensor]:
    """Random matrices under PEFT's names, without a prefix."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in layers:
        tensors[f"{layer}.lora_A.weight"] = torch.randn(rank, width, generator=generator)
        tensors[f"{layer}.lora_B.weight"] = torch.randn(width, rank, generator=generator)
    return tensors


def update(tensors: dict[str, Tensor], layer: str, prefix: str = "") -> Tensor:
    return tensors[f"{prefix}{layer}.lora_B.weight"] @ tensors[f"{prefix}{layer}.lora_A.weight"]


def read(tmp_path: Path, tensors: dict[str, Tensor], **metadata: str) -> dict[str, Tensor]:
    """Each layer's update as gridctl reads it from a file."""
    save_file(tensors, tmp_path / "lora.safetensors", metadata or None)
    lora = read_lora(tmp_path / "lora.safetensors")
    return {name: pair.up.float() @ pair.down.float() for name, pair in lora.pairs.items()}


@pytest.mark.parametrize("prefix", ["", "transformer.", "base_model.model.", "diffusion_model."])
@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A.weight", "lora_B.weight"),
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_down.weight", "lora_up.weight"),
        ("lora.down.weight", "lora.up.weight"),
    ],
)
def test_prefixes_and_endings_of_diffusers_names(
    tmp_path: Path, prefix: str, down: str, up: str
) -> None:
    tensors = peft()
    names = {n: n.replace("lora_A.weight", down).replace("lora_B.weight", up) for n in tensors}
    found = read(tmp_path, {prefix + names[name]: tensor for name, tensor in tensors.items()})
    assert found.keys() == set(LAYERS)
    for layer in LAYERS:
        assert torch.allclose(found[layer], update(tensors, layer), atol=1e-4)


def header(**config: Any) -> str:
    return json.dumps({f"transformer.{name}": value for name, value in config.items()})


Q, K = LAYERS[0], LAYERS[1]


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({"r": RANK, "lora_alpha": RANK // 2}, {Q: 0.5, K: 0.5}),
        ({"r": RANK, "lora_alpha": 8, "use_rslora": True}, {Q: 8 / math.sqrt(RANK)}),
        ({"r": RANK, "lora_alpha": RANK, "alpha_pattern": {"to_q": 1}}, {Q: 0.25, K: 1.0}),
        ({"r": RANK, "lora_alpha": 2, "alpha_pattern": {Q.replace(".", r"\."): 8}}, {Q: 2, K: 0.5}),
        ({"r": 99, "lora_alpha": RANK}, {Q: 1.0}),  # the matrices say what the rank is
    ],
)
def test_the_strength_is_that_of_the_header(
    tmp_path: Path, config: dict[str, Any], scales: dict[str, float]
) -> None:
    tensors = {f"transformer.{name}": tensor for name, tensor in peft().items()}
    found = read(tmp_path, tensors, lora_adapter_metadata=header(**config))
    for layer, scale in scales.items():
        wanted = scale * update(tensors, layer, "transformer.")
        assert torch.allclose(found[layer], wanted, atol=1e-4)


def test_an_alpha_beside_the_matrices_counts_more_than_the_header(tmp_path: Path) -> None:
    tensors = peft()
    with_alpha = {**tensors, f"{Q}.alpha": torch.tensor(3.0)}
    found = read(tmp_path, with_alpha, lora_adapter_metadata=header(lora_alpha=100))
    assert torch.allclose(found[Q], 0.75 * update(tensors, Q), atol=1e-4)


def kohya_of_flux(rank: int = 2, width: int = 3072) -> dict[str, Tensor]:
    """One double and one single block of FLUX.1's own width, as sd-scripts writes them."""
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "double_blocks_3_img_attn_qkv": (3 * width, width),
        "double_blocks_3_txt_attn_qkv": (3 * width, width),
        "double_blocks_3_img_attn_proj": (width, width),
        "double_blocks_3_img_mlp_0": (4 * width, width),
        "double_blocks_3_img_mlp_2": (width, 4 * width),
        "double_blocks_3_img_mod_lin": (6 * width, width),
        "single_blocks_7_linear1": (7 * width, width),
        "single_blocks_7_linear2": (width, 5 * width),
        "single_blocks_7_modulation_lin": (3 * width, width),
    }
    tensors = {}
    for name, (rows, columns) in shapes.items():
        stem = f"lora_unet_{name}"
        tensors[f"{stem}.lora_down.weight"] = torch.randn(rank, columns, generator=generator)
        tensors[f"{stem}.lora_up.weight"] = torch.randn(rows, rank, generator=generator)
        tensors[f"{stem}.alpha"] = torch.tensor(rank / 4)
    return tensors


def test_kohya_files_are_read_as_diffusers_reads_them(tmp_path: Path) -> None:
    tensors = kohya_of_flux()
    theirs = FluxPipeline.lora_state_dict({name: t.clone() for name, t in tensors.items()})
    save_file(tensors, tmp_path / "k.safetensors")
    lora = read_lora(tmp_path / "k.safetensors")
    assert lora.naming == "kohya"
    assert lora.unused(lora.pairs) == ()
    modules = {name.removeprefix("transformer.").rpartition(".lora_")[0] for name in theirs}
    assert lora.pairs.keys() == modules
    probe = torch.randn(64, generator=torch.Generator().manual_seed(2))
    for module, pair in lora.pairs.items():  # the whole matrices would take gigabytes
        down, up = (theirs[f"transformer.{module}.lora_{side}.weight"] for side in "AB")
        rows = slice(0, 64)
        wanted = probe @ up[rows].float() @ down.float()
        assert torch.allclose(probe @ pair.up[rows].float() @ pair.down.float(), wanted, atol=1e-3)
        assert pair.up.shape[0] == up.shape[0]


def test_names_of_black_forest_labs_are_those_of_their_code(tmp_path: Path) -> None:
    tensors = {
        name.replace("lora_unet_double_blocks_3_img_attn_", "double_blocks.3.img_attn.")
        .replace("lora_down", "lora_A")
        .replace("lora_up", "lora_B"): tensor
        for name, tensor in kohya_of_flux().items()
        if "img_attn" in name
    }
    save_file(tensors, tmp_path / "b.safetensors")
    lora = read_lora(tmp_path / "b.safetensors")
    assert lora.naming == "black-forest-labs"
    block = "transformer_blocks.3.attn"
    assert list(lora.pairs) == [f"{block}.{n}" for n in ("to_out.0", "to_q", "to_k", "to_v")]


def test_names_of_xlabs(base: Any, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, rows in (("qkv_lora1", 3 * WIDTH), ("qkv_lora2", 3 * WIDTH), ("proj_lora1", WIDTH)):
        stem = f"double_blocks.1.processor.{name}"
        tensors[f"{stem}.down.weight"] = torch.randn(RANK, WIDTH, generator=generator)
        tensors[f"{stem}.up.weight"] = torch.randn(rows, RANK, generator=generator)
    save_file(tensors, tmp_path / "x.safetensors")
    lora = read_lora(tmp_path / "x.safetensors")
    assert lora.naming == "xlabs"
    whole = tensors["double_blocks.1.processor.qkv_lora2.up.weight"]
    whole = whole @ tensors["double_blocks.1.processor.qkv_lora2.down.weight"]
    block = "transformer_blocks.1.attn"
    parts = [lora.pairs[f"{block}.add_{part}_proj"] for part in "qkv"]
    assert torch.allclose(torch.cat([pair.up @ pair.down for pair in parts]), whole, atol=1e-4)
    image = {f"{block}.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")}
    assert lora.pairs.keys() == {*image, *(f"{block}.add_{part}_proj" for part in "qkv")}
    applied = apply_adapter(base.load_transformer(), tmp_path / "x.safetensors")
    assert applied.unused == ()


def test_every_linear_layer_of_the_transformer_has_its_name_in_both(transformer: Any) -> None:
    linear = {n for n, layer in transformer.named_modules() if hasattr(layer, "in_features")}
    for module in linear:
        layer = layer_of(module)
        assert layer is not None, module
        assert module in layer.parts
        assert find_layer(layer.name) == find_layer(layer.name.replace(".", "_")) == layer
        assert find_module(module.replace(".", "_")) == module


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({f"transformer.{Q}.dora_scale": torch.ones(WIDTH, 1)}, "LoRA with DoRA"),
        ({f"transformer.{Q}.lora_magnitude_vector": torch.ones(WIDTH)}, "LoRA with DoRA"),
        ({f"transformer.{Q}.lokr_w1": torch.ones(2, 2)}, "LoRA with LoKr"),
        ({f"transformer.{Q}.hada_w1_a": torch.ones(2, 2)}, "LoRA with LoHa"),
        ({f"transformer.{Q}.lora_B.bias": torch.ones(WIDTH)}, "LoRA with biases"),
        (
            {"single_blocks.0.processor.proj_lora.down.weight": torch.ones(RANK, WIDTH)},
            "LoRA with single-block projections of XLabs",
        ),
        ({f"{K}.lora_A.weight": torch.ones(RANK, WIDTH, dtype=torch.int8)}, "not quantised"),
        ({f"{K}.alpha": torch.ones(2)}, r"alpha has 2 values and must have one"),
        ({f"{K}.lora_A.weight": torch.full((RANK, WIDTH), math.nan)}, "are not finite numbers"),
        ({f"{K}.lora_A.weight": torch.ones(RANK + 1, WIDTH)}, "do not belong together"),
    ],
)
def test_what_cannot_be_applied_is_refused(
    tmp_path: Path, extra: dict[str, Tensor], told: str
) -> None:
    with pytest.raises(GridctlError, match=told) as error:
        read(tmp_path, peft() | extra)
    assert "\n" not in str(error.value)
    assert "lora.safetensors" in str(error.value)


def test_a_file_may_be_of_fp8_or_hold_1x1_convolutions_and_layers_of_no_rank(
    tmp_path: Path,
) -> None:
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in peft().items()}
    found = read(tmp_path, tensors)
    exact = {name: tensor.float() for name, tensor in tensors.items()}
    assert torch.allclose(found[LAYERS[0]], update(exact, LAYERS[0]), atol=1e-4)
    convolutions = {name: tensor[..., None, None] for name, tensor in peft().items()}
    convolutions |= {
        f"{Q}.lora_A.weight": torch.ones(0, WIDTH),
        f"{Q}.lora_B.weight": torch.ones(WIDTH, 0),
    }
    found = read(tmp_path, convolutions)
    assert Q not in found
    assert torch.allclose(found[LAYERS[1]], update(peft(), LAYERS[1]), atol=1e-4)


@pytest.mark.parametrize(
    "config", [{"lora_alpha": "x"}, {"alpha_pattern": [1]}, {"alpha_pattern": {"(": 4}}]
)
def test_a_header_without_sense_is_one_line(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="its strength is unknown"):
        read(tmp_path, peft(), lora_adapter_metadata=header(**config))


def test_dora_in_the_header_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lora\.safetensors .*DoRA"):
        read(tmp_path, peft(), lora_adapter_metadata=header(use_dora=True))


def test_a_file_without_a_lora_of_flux_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0 of 1 tensors fit, such as unet\.down\.lora_A\.weight"):
        read(tmp_path, {"unet.down.lora_A.weight": torch.ones(2, 2)})
    (tmp_path / "c.safetensors").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="is not an adapter"):
        read_lora(tmp_path / "c.safetensors")


def test_tensors_that_do_nothing_are_counted(base: Any, tmp_path: Path) -> None:
    text = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    deeper = "transformer_blocks.18.attn.to_q"  # the built-in base has two blocks
    tensors = peft([*LAYERS, deeper]) | peft([text], width=64)
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)
    applied = apply_adapter(base.load_transformer(), path)
    assert (applied.loaded, applied.total) == (10, 14)
    assert str(applied).startswith("loaded 10 of 14 tensors; not used: text_encoder.")
    assert len(str(applied).splitlines()) == 1


def test_a_lora_for_another_model_is_refused(base: Any, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file(peft(["transformer_blocks.18.attn.to_q"]), path)
    with pytest.raises(UsageError, match=r"does not fit .*has no transformer_blocks\.18"):
        apply_adapter(base.load_transformer(), path)
    save_file(peft(width=96), path)
    with pytest.raises(UsageError, match=r"is 160 -> 160 there and 96 -> 96 in the file"):
        apply_adapter(base.load_transformer(), path)
