"""`gridctl adapter`: the same LoRA under other names draws the same, and its facts are kept."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from gridctl.adapter import convert_adapter, describe_adapter
from gridctl.errors import InputError, UsageError
from gridctl.lora.adapters import read_adapter_metadata, read_lora
from gridctl.lora.files import layer_of
from gridctl.tiny.weights import ADAPTER_FILE


@pytest.mark.parametrize("to", ["kohya", "comfyui", "diffusers"])
def test_there_and_back_is_the_same_adapter(tmp_path: Path, to: str) -> None:
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    made = convert_adapter("tiny-grid", there, to)  # type: ignore[arg-type]
    assert (made.layers, made.unused) == (54, ())
    convert_adapter(str(there), back, "diffusers")
    first, last = load_file(ADAPTER_FILE), load_file(back)
    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert (
        read_adapter_metadata(there)
        == read_adapter_metadata(back)
        == read_adapter_metadata(ADAPTER_FILE)
    )


def test_fused_layers_have_the_names_and_rows_of_black_forest_labs(tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    convert_adapter("tiny-grid", path, "kohya")
    stored, pairs = load_file(path), read_lora(ADAPTER_FILE).pairs
    stem = "lora_unet_single_blocks_0_linear1"
    down, up = (stored[f"{stem}.lora_{side}.weight"].float() for side in ("down", "up"))
    layer = layer_of("single_transformer_blocks.0.proj_mlp")
    assert layer is not None
    parts = [pairs[part].up.float() @ pairs[part].down.float() for part in layer.parts]
    assert torch.allclose(up @ down, torch.cat(parts), atol=1e-4)
    assert float(stored[f"{stem}.alpha"]) == down.shape[0]  # so that the scale is 1 everywhere
    assert all(name.startswith("lora_unet_") for name in stored)


def test_a_layer_without_an_update_gets_zeros(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    q = "transformer.transformer_blocks.0.attn.to_v"
    some = {f"{q}.lora_A.weight": torch.ones(2, 160), f"{q}.lora_B.weight": torch.ones(160, 2)}
    save_file(some, tmp_path / "v.safetensors")
    convert_adapter(str(tmp_path / "v.safetensors"), tmp_path / "k.safetensors", "kohya")
    stored = load_file(tmp_path / "k.safetensors")
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    update = stored[f"{stem}.lora_up.weight"] @ stored[f"{stem}.lora_down.weight"]
    assert update.shape == (480, 160)
    assert not update[:320].any()
    assert torch.equal(update[320:], torch.full((160, 160), 2.0))


def test_converted_files_are_the_same_every_time(tmp_path: Path) -> None:
    contents = set()
    for number in range(4):
        path = tmp_path / f"{number}" / "a.safetensors"
        convert_adapter("tiny-grid", path, "comfyui")
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_an_output_is_neither_the_input_nor_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    convert_adapter("tiny-grid", path, "diffusers")
    with pytest.raises(UsageError, match="is the file to convert"):
        convert_adapter(str(path), path, "kohya", force=True)
    with pytest.raises(UsageError, match=r"end it with \.safetensors"):
        convert_adapter(str(path), tmp_path / "a.pt", "kohya")
    other = tmp_path / "b.safetensors"
    other.write_bytes(b"precious")
    with pytest.raises(InputError, match="--force"):
        convert_adapter(str(path), other, "kohya")
    assert other.read_bytes() == b"precious"


def test_a_report_says_rank_and_training(adapter: Path) -> None:
    report = describe_adapter(str(adapter))
    assert report.ranks == {4: 54}
    assert report.facts is not None
    assert (report.facts.steps, report.facts.clips) == (2, 4)
    assert report.metadata["modelspec.architecture"] == "gridctl-tiny/lora"
    assert report.metadata["modelspec.resolution"] == "96x64"
    assert report.metadata["modelspec.usage_hint"].endswith(
        "2x3 grid of 6 video frames in reading order."
    )


def test_show_and_convert_on_the_command_line(
    gridctl: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert gridctl("adapter", "show", "tiny-grid") == 0
    shown = capsys.readouterr().out
    assert "\nrank      64\n" in shown
    assert "generate.steps" not in shown  # the profile comes with --verbose
    assert gridctl("adapter", "convert", "tiny-grid", "--to", "kohya") == 0
    assert capsys.readouterr().out == "tiny-grid-kohya.safetensors\n"
    with safe_open("tiny-grid-kohya.safetensors", framework="pt") as file:
        assert "gridctl" in file.metadata()
    assert gridctl("adapter", "show", "tiny-grid-kohya.safetensors", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["names"], data["rank"], data["base"]) == ("kohya", 64, "tiny")
    assert gridctl("adapter", "convert", "tiny-grid", "--to", "a1111") == 2
    assert "choose diffusers, kohya, comfyui" in capsys.readouterr().err
