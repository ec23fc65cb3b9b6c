import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gridctl.flux.base import BaseModel, open_base
from gridctl.flux.latents import encode_frames, join_cells
from gridctl.geometry import Grid
from gridctl.train import cache as cache_module
from gridctl.train.cache import Cache
from gridctl.train.data import Sample, load_frames, read_samples

GRID = Grid(rows=2, cols=3, cell=(32, 32))
Fill = Callable[..., "tuple[Cache, list[str]]"]


@pytest.fixture
def folder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small dataset, to change, with an empty cache."""
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(dataset, tmp_path / "vidgrid"))


@pytest.fixture
def fill(folder: Path, base: Any, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Fill the cache for the folder; returns it, and what had to be computed."""
    computed: list[str] = []
    encoders, vae = BaseModel.text_encoders, BaseModel.vae

    def counted_encode(*args: Any, **kwargs: Any) -> torch.Tensor:
        computed.append("grid")
        return encode_frames(*args, **kwargs)

    def counted_load(load: Callable[..., Any], name: str) -> Callable[..., Any]:
        def loading(*args: Any) -> Any:
            computed.append(name)
            return load(*args)

        return loading

    monkeypatch.setattr(cache_module, "encode_frames", counted_encode)
    monkeypatch.setattr(BaseModel, "vae", counted_load(vae, "vae"))
    monkeypatch.setattr(BaseModel, "text_encoders", counted_load(encoders, "text encoders"))

    def run(grid: Grid = GRID, model: BaseModel = base, text_tokens: int | None = None) -> Any:
        computed.clear()
        samples, _ = read_samples(folder, grid)
        cache = Cache.of(model, grid, text_tokens)
        cache.fill(
            model,
            samples,
            [sample.caption for sample in samples],
            text_tokens=text_tokens,
            encode_batch=8,
            progress=lambda done, total, text: None,
        )
        return cache, sorted(computed)

    return run


def test_entries_are_what_they_are_made_of(folder: Path, fill: Fill, base: Any) -> None:
    cache, _ = fill()
    for sample in read_samples(folder, GRID)[0]:
        latents = cache.latents(sample)
        with base.vae() as vae:
            wanted = join_cells(encode_frames(vae, load_frames(sample.image, GRID), batch=8), GRID)
        assert latents.shape == (16, 8, 12)
        assert torch.allclose(latents, wanted, atol=1e-5)
        with base.text_encoders() as encode, torch.inference_mode():
            wanted_prompt = encode([sample.caption])
        cached = cache.prompt(sample.caption)
        assert torch.allclose(cached.embeds, wanted_prompt.embeds, atol=1e-5)
        assert torch.allclose(cached.pooled, wanted_prompt.pooled, atol=1e-5)


def test_the_second_time_nothing_is_computed_or_loaded(fill: Fill) -> None:
    assert fill()[1] == ["grid"] * 4 + ["text encoders", "vae"]
    assert fill()[1] == []


def test_only_what_is_new_is_computed(folder: Path, fill: Fill) -> None:
    fill()
    image = folder / "clip_0002.png"
    pixels = np.asarray(Image.open(image)).copy()
    pixels[0, 0] ^= 1
    exif = Image.open(image).getexif()
    Image.fromarray(pixels).save(image, exif=exif)
    assert fill()[1] == ["grid", "vae"]
    (folder / "clip_0003.txt").write_text("another caption")
    assert fill()[1] == ["text encoders"]
    (folder / "clip_0003.png").rename(folder / "moved.png")  # content counts, not the name
    (folder / "clip_0003.txt").rename(folder / "moved.txt")
    assert fill()[1] == []


def test_every_setting_that_counts_makes_a_new_entry(
    fill: Fill, make_profile: Callable[..., Any], base: Any, tmp_path: Path
) -> None:
    fill()
    images = ["grid"] * 4 + ["vae"]
    assert fill(grid=Grid(rows=2, cols=3, cell=(16, 32)))[1] == images
    assert fill(text_tokens=16)[1] == ["text encoders"]
    half = open_base(make_profile(model__dtype="bfloat16"))
    assert fill(model=half)[1] == ["text encoders"]
    other = Path(shutil.copytree(base.folder, tmp_path / "model"))
    weights = next((other / "vae").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert fill(model=open_base(make_profile(model__base=str(other))))[1] == images


def test_captions_of_any_length_and_number(folder: Path, base: Any) -> None:
    """More captions than are encoded at once, each found again under its own name."""
    captions = [f"a red circle number {k}" for k in range(19)] + ["", "ein Bär"]
    cache = Cache.of(base, GRID, None)
    no_samples: list[Sample] = []
    cache.fill(
        base,
        no_samples,
        captions,
        text_tokens=None,
        encode_batch=8,
        progress=lambda done, total, text: None,
    )
    with base.text_encoders() as encode, torch.inference_mode():
        encoded = encode(captions)
    for index, caption in enumerate(captions):
        cached, wanted = cache.prompt(caption), encoded.one(index)
        assert torch.allclose(cached.embeds, wanted.embeds, atol=1e-4)
        assert torch.allclose(cached.pooled, wanted.pooled, atol=1e-4)
