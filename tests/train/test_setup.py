import gc
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridctl.adapter import convert_adapter
from gridctl.errors import InputError, UsageError
from gridctl.lora.adapters import read_adapter_metadata, read_lora
from gridctl.progress import silent
from gridctl.tiny.weights import ADAPTER_FILE, BASE_FOLDER
from gridctl.train import train
from gridctl.train.setup import refuse_distilled, set_up
from tests.train.runs import same_weights

Make = Callable[..., Any]


def test_encoders_are_freed_before_the_transformer(
    make_profile: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoders() -> int:
        gc.collect()
        names = [type(o).__name__ for o in gc.get_objects()]
        return len([n for n in names if n in ("T5EncoderModel", "CLIPTextModel")])

    alive: dict[str, int] = {}

    def progress(done: int, total: int, text: str) -> None:
        if text in ("encoding captions", "loading the transformer"):
            alive[text] = encoders() - before

    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    before = encoders()
    profile = make_profile(train__output=tmp_path / "a.safetensors", train__steps=1)
    train(profile, progress=progress)
    assert alive == {"encoding captions": 2, "loading the transformer": 0}


def test_schnell_is_refused_by_its_name(make_profile: Make) -> None:
    profile = make_profile(model__base="black-forest-labs/FLUX.1-schnell", train__data="nowhere")
    with pytest.raises(UsageError, match="allow_distilled = true"):
        train(profile)


def test_a_distilled_base_is_trained_only_if_allowed(
    make_profile: Make, base: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(base.folder, tmp_path / "model"))
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "guidance_embeds": False}))
    path = tmp_path / "a.safetensors"
    options = {"model__base": str(folder), "train__output": path, "train__steps": 1}
    with pytest.raises(UsageError, match="distilled"):
        train(make_profile(**options))
    assert not path.exists()
    refuse_distilled(make_profile(train__allow_distilled=True, **options))
    train(make_profile(train__allow_distilled=True, **options))
    metadata = read_adapter_metadata(path)
    assert metadata is not None
    assert metadata.base == "./model"


def test_a_run_starts_from_another_ones_weights(
    make_profile: Make, copied: Path, tmp_path: Path
) -> None:
    first, second = copied, tmp_path / "second.safetensors"
    options = {"train__output": second, "train__start": first, "train__lora_alpha": 8.0}
    options |= {"train__steps": 1, "train__seed": 5}
    train(make_profile(train__learning_rate=1e-12, **options))
    began, ended = load_file(first), load_file(second)
    assert began.keys() == ended.keys()
    for name, tensor in began.items():
        assert torch.allclose(tensor, ended[name], atol=1e-8)
    train(make_profile(**options), force=True)
    assert not same_weights(first, second)
    metadata = read_adapter_metadata(second)
    assert metadata is not None
    assert 'train.start = "a.safetensors"' in metadata.profile
    assert train(make_profile(**options)).resumed_at == 1  # the same adapter to start from
    train(make_profile(train__output=first, train__steps=4))
    with pytest.raises(InputError, match="other data or settings"):
        train(make_profile(**options))


def test_a_base_in_a_folder_is_named_without_its_path(make_profile: Make) -> None:
    folder = BASE_FOLDER
    setup = set_up(make_profile(model__base=str(folder)), progress=silent)
    metadata = setup.adapter_metadata(1)
    assert metadata.base == "./tiny"  # not "tiny", which is the built-in base
    assert 'model.base = "./tiny"' in metadata.profile
    assert str(folder.parent) not in metadata.profile


def test_a_run_starts_from_the_built_in_adapter(make_profile: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    options = {"train__output": path, "train__steps": 1, "train__learning_rate": 1e-12}
    train(make_profile(train__start="tiny-grid", train__rank=64, **options))
    shipped = load_file(ADAPTER_FILE)
    for name, tensor in load_file(path).items():
        assert torch.allclose(tensor, shipped[name].float(), atol=1e-8)


@pytest.mark.parametrize("naming", ["kohya", "comfyui"])
def test_a_run_starts_from_a_lora_of_another_tool(
    make_profile: Make, finished: Path, tmp_path: Path, naming: Literal["kohya", "comfyui"]
) -> None:
    """It may have a lower rank."""
    own, other = finished, tmp_path / "other.safetensors"
    convert_adapter(str(own), other, naming)
    rate = {"train__steps": 1, "train__learning_rate": 1e-12, "train__rank": 12}
    path = tmp_path / "more.safetensors"
    train(make_profile(train__output=path, train__start=other, **rate))
    first, second = read_lora(own).pairs, read_lora(path).pairs
    assert first.keys() == second.keys()
    for name, pair in first.items():
        assert second[name].rank == 12
        assert torch.allclose(second[name].up @ second[name].down, pair.up @ pair.down, atol=1e-6)


def test_an_unsuitable_start_is_one_line(make_profile: Make, copied: Path, tmp_path: Path) -> None:
    """Faults other than the names of single layers show before anything is encoded or loaded."""
    start, text = copied, tmp_path / "plain.safetensors"
    text.write_text("no adapter")
    foreign, deeper = tmp_path / "foreign.safetensors", tmp_path / "deeper.safetensors"
    text_too, norms = tmp_path / "text.safetensors", tmp_path / "norms.safetensors"
    matrices, norm = load_file(start), "transformer_blocks.0.norm1.linear"
    pair = {"lora_A.weight": torch.zeros(4, 160), "lora_B.weight": torch.zeros(960, 4)}
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}, foreign)
    save_file({n.replace("blocks.0", "blocks.9"): t for n, t in matrices.items()}, deeper)
    save_file(matrices | {f"lora_te1_x.{n}": t for n, t in pair.items()}, text_too)
    save_file(matrices | {f"transformer.{norm}.{n}": t for n, t in pair.items()}, norms)
    with pytest.raises(UsageError, match="trained on it") as error:
        train(make_profile(train__output=tmp_path / "new.safetensors", train__start=deeper))
    assert "\n" not in str(error.value)
    seen: list[str] = []
    for fault, options in {
        "rank 4, and train.rank is 2; set train.rank to 4": {
            "train__start": start,
            "train__rank": 2,
        },
        "holds no LoRA": {"train__start": foreign},
        "2 tensors that training cannot continue, such as lora_te1_x": {"train__start": text_too},
        r"not trained, such as transformer_blocks\.0\.norm1\.linear": {"train__start": norms},
        "must be a safetensors file": {"train__start": text},
        "is not there": {"train__start": tmp_path / "nowhere.safetensors"},
        "would replace": {"train__start": start, "train__output": start},
    }.items():
        profile = make_profile(**{"train__output": tmp_path / "new.safetensors", **options})
        with pytest.raises((UsageError, InputError), match=fault) as error:
            train(profile, force=True, progress=lambda done, total, text: seen.append(text))
        assert "\n" not in str(error.value)
    assert seen
    assert not [text for text in seen if text.startswith(("loading", "encoding"))]


def test_the_adapter_has_the_dtype_of_the_profile(
    make_profile: Make, finished: Path, copied: Path
) -> None:
    train(make_profile(train__output=copied, train__steps=3, train__save_dtype="float16"))
    wanted = {name: tensor.half() for name, tensor in load_file(finished).items()}
    got = load_file(copied)
    assert got.keys() == wanted.keys()
    assert all(got[n].dtype == torch.float16 and torch.equal(got[n], wanted[n]) for n in got)


def test_captions_from_elsewhere_leave_no_layout(
    make_profile: Make, dataset: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    for text in data.glob("*.txt"):
        text.write_text("a cat on a mat")
    setup = set_up(make_profile(train__data=data), progress=silent)
    assert setup.adapter_metadata(1).layout == ""


@pytest.mark.parametrize("processes", [2, 4, 3])
def test_processes_share_steps_evenly(make_profile: Make, processes: int) -> None:
    profile = make_profile(train__batch_size=2, train__accumulate=2)
    if processes == 3:
        with pytest.raises(UsageError, match="3 processes cannot share a step of 4 grids evenly"):
            set_up(profile, processes=processes, progress=silent)
    else:
        set_up(profile, processes=processes, progress=silent)


def test_a_tracker_that_is_not_installed_is_named(make_profile: Make, tmp_path: Path) -> None:
    profile = make_profile(train__output=tmp_path / "a.safetensors", train__trackers=["trackio"])
    with pytest.raises(UsageError, match=r"trackio, which is missing; pip install trackio\."):
        train(profile)
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_an_adapter(make_profile: Make, dataset: Path, tmp_path: Path) -> None:
    """New words, for warnings of generate, and the number of different grids."""
    data = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    for suffix in (".png", ".txt"):
        shutil.copy(data / f"clip_0001{suffix}", data / f"copy{suffix}")
    caption = data / "clip_0002.txt"
    caption.write_text(caption.read_text().strip() + " with a Zebra")
    metadata = set_up(make_profile(train__data=data), progress=silent).adapter_metadata(7)
    assert (metadata.words, metadata.clips, metadata.steps) == (("zebra",), 4, 7)
    elsewhere = make_profile(train__data=data, model__base=str(BASE_FOLDER))
    assert set_up(elsewhere, progress=silent).adapter_metadata(7).words == ()


def test_each_grid_is_validated_once(make_profile: Make, val_dataset: Path) -> None:
    """Though two stages have it, and 32 at most."""
    profile = make_profile(train__data=val_dataset, train__stage=[{"steps": 1}, {"steps": 1}])
    setup = set_up(profile, progress=silent)
    (only,) = setup.validation
    assert only.image.parent.name == "val"
    assert setup.preview_prompts == [only.captions[0]]  # those of val/ where there is one
    many = [replace(only, image=Path(f"{k}.png")) for k in range(40)]
    datasets = [replace(setup.datasets[0], validation=tuple(many))]
    assert replace(setup, datasets=datasets).validation == many[:32]


def test_captions_are_what_a_run_needs(make_profile: Make) -> None:
    def texts(**keys: Any) -> list[str]:
        return set_up(make_profile(**keys), progress=silent).captions

    plain = texts()
    assert len(plain) == len(set(plain)) == 4
    assert texts(train__caption_dropout=0.1) == [*plain, ""]
    contents = [text.partition(" order. ")[2] for text in plain]
    assert texts(train__preserve_weight=0.1) == [*plain, *contents]
    prompt = "2x3 grid of 6 video frames in reading order. a cat"
    previews = {"train__preview_every": 2, "train__preview_prompts": ["a cat"]}
    assert texts(**previews) == [*plain, prompt, ""]
