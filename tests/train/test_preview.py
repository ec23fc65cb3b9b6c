from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from gridctl.generate import draw
from gridctl.generate.job import Request
from gridctl.generate.tasks import t2v
from gridctl.train import train
from gridctl.train.preview import contact_sheet, draw_previews
from tests.train.runs import same_weights

Make = Callable[..., Any]
PROMPTS = ("a red circle moving right", "a blue square")
OPTIONS = {
    "train__steps": 3, "train__ema": 0.9, "train__learning_rate": 0.02,
    "generate__steps": 2, "generate__seed": 3,
    "generate__true_cfg_scale": 1.5, "generate__stochastic_min_sigma": 0.0,
}  # fmt: skip
PREVIEWS = {"train__preview_every": 2, "train__preview_prompts": PROMPTS}


@pytest.fixture(scope="module")
def plain(made_once: Callable[..., Path], make_profile: Make, shared_cache: Path) -> Path:
    """The adapter of a run without previews."""

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gridctl.train.setup.has_fast_bfloat16", lambda device: False)
            patch.setenv("GRIDCTL_CACHE", str(shared_cache))
            train(make_profile(train__output=folder / "a.safetensors", **OPTIONS))

    return made_once("without-previews", fill) / "a.safetensors"


def frames_of(clip: Path) -> list[bytes]:
    with av.open(str(clip)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def test_previews_are_what_generate_draws(make_profile: Make, plain: Path, tmp_path: Path) -> None:
    """With averaged weights, and guidance and fresh noise in each step. The run stays the same."""
    seen = tmp_path / "seen.safetensors"
    folder = train(make_profile(train__output=seen, **OPTIONS, **PREVIEWS)).run_folder / "previews"
    assert same_weights(plain, seen)
    assert sorted(path.name for path in folder.iterdir()) == [
        name for step in (0, 2, 3) for name in (f"step-00000{step}", f"step-00000{step}.jpg")
    ]
    profile = make_profile(model__adapter=str(seen), **OPTIONS)
    output = tmp_path / "drawn"
    request = Request(prompts=PROMPTS, output=output, many=True, profile=profile)
    for number, clip in enumerate(draw(t2v(request)).written, start=1):
        assert frames_of(folder / "step-000003" / f"{number}.mp4") == frames_of(clip)
        assert frames_of(folder / "step-000000" / f"{number}.mp4") != frames_of(clip)


def test_a_run_outlives_previews_without_memory(
    make_profile: Make, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and average were swapped when memory ran out, and are swapped back."""
    calls: list[str] = []

    def sample(*_: Any, **__: Any) -> Any:
        calls.append("")
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("gridctl.train.preview.sample", sample)
    path, notes = tmp_path / "a.safetensors", list[str]()
    folder = train(
        make_profile(train__output=path, **OPTIONS, **PREVIEWS), note=notes.append
    ).run_folder
    assert same_weights(plain, path)
    assert len(calls) == len([note for note in notes if "no memory for previews" in note]) == 3
    assert not (folder / "previews").exists()


@pytest.mark.parametrize("broken", [False, True])
def test_previews_leave_the_run_as_it_was(
    load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """In every value, and training again."""
    run = load(train__output=tmp_path / "a.safetensors", train__ema=0.5, **PREVIEWS)
    for value in run.ema.values():
        value += 1.0
    weights = [parameter.detach().clone() for parameter in run.parameters]
    average = {name: value.clone() for name, value in run.ema.items()}
    state = torch.get_rng_state()
    if broken:
        monkeypatch.delattr("gridctl.train.preview.sample")
        with pytest.raises(NameError):
            draw_previews(run, 1, progress=lambda *_: None, note=lambda text: None)
    else:
        draw_previews(run, 1, progress=lambda *_: None, note=lambda text: None)
    pairs = zip(run.parameters, weights, strict=True)
    assert all(torch.equal(parameter, value) for parameter, value in pairs)
    assert all(torch.equal(run.ema[name], value) for name, value in average.items())
    assert run.transformer.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("kind", "flash"), [("math", False), ("auto", True)])
def test_previews_use_the_kernel_of_the_profile(
    load: Callable[..., Any], tmp_path: Path, kind: str, flash: bool
) -> None:
    run = load(train__output=tmp_path / "a.safetensors", model__attention=kind, **PREVIEWS)
    seen = set()

    def watch(*_: Any) -> None:
        seen.add(torch.backends.cuda.flash_sdp_enabled())

    run.transformer.transformer_blocks[0].attn.register_forward_pre_hook(watch)
    draw_previews(run, 1, progress=lambda *_: None, note=lambda text: None)
    assert seen == {flash}


def test_previews_asked_for_later(make_profile: Make, copied: Path) -> None:
    """The run is the same; its start is over, and captions are the prompts."""
    options = {"train__output": copied, "train__preview_every": 1, "generate__steps": 1}
    folder = train(make_profile(train__steps=4, **options)).run_folder / "previews"
    assert [path.name for path in sorted(folder.glob("*.jpg"))] == ["step-000004.jpg"]
    assert len(list((folder / "step-000004").iterdir())) == 4
    prompts = {"train__preview_prompts": PROMPTS[:1]}
    train(make_profile(train__steps=1, **options, **prompts), force=True)
    names = [path.name for path in sorted(folder.glob("*.jpg"))]
    assert names == ["step-000000.jpg", "step-000001.jpg"]  # those of the old run are gone


def test_a_contact_sheet_has_a_row_for_each_clip() -> None:
    clips = [np.full((24, 64, 256, 3), 10 * k, np.uint8) for k in (1, 2, 3)]
    sheet = contact_sheet(clips)
    assert sheet.size == (8 * 128 + 7 * 2, 3 * 32 + 2 * 2)
    pixels = np.asarray(sheet)
    assert [int(pixels[row, 500, 0]) for row in (10, 44, 78)] == [10, 20, 30]
