import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gridctl.diffusion.cells import join_cells
from gridctl.geometry import Grid
from gridctl.train.cache import Cache
from gridctl.train.data import load_frames, read_dataset
from gridctl.train.setup import fill_cache, set_up

GRID = Grid(rows=2, cols=3, cell=(32, 32))
Fill = Callable[..., list[str]]
VAE, TEXT = "loading the VAE", "loading the text encoders"


@pytest.fixture
def folder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small dataset, to change, with an empty cache."""
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(dataset, tmp_path / "vidgrid"))


@pytest.fixture
def fill(folder: Path, make_profile: Callable[..., Any]) -> Fill:
    """Fill the cache for the folder; returns the encoders loaded and the entries made."""

    def run(shard: tuple[int, int] | None = None, **values: Any) -> list[str]:
        told: list[tuple[int, int, str]] = []
        setup = set_up(make_profile(train__data=folder, **values), progress=lambda *_: None)
        fill_cache(setup, progress=lambda *update: told.append(update), shard=shard)
        entries = {text: done for done, _, text in told}
        return [f"{entries.pop(text)} {text}" for text in list(entries)]

    return run


def made(grids: int = 0, captions: int = 0) -> list[str]:
    """What `fill` returns for that many new entries."""
    parts = [f"0 {VAE}", f"{grids} encoding grids"] if grids else []
    return parts + ([f"0 {TEXT}", f"{captions} encoding captions"] if captions else [])


def test_entries_are_what_they_are_made_of(folder: Path, fill: Fill, base: Any) -> None:
    fill()
    cache = Cache.of(base, None)
    for sample in read_dataset(folder, GRID).train:
        latents = cache.latents(sample, GRID)
        with base.vae() as vae:
            wanted = join_cells(vae.encode(load_frames(sample.image, GRID), batch=8), GRID)
        assert latents.shape == (64, 4, 6)
        assert torch.allclose(latents, wanted, atol=1e-5)
        with base.text_encoders() as encode, torch.inference_mode():
            encoded = encode(sample.captions)
        cached = cache.prompt(sample.captions[0])
        assert torch.allclose(cached["embeds"], encoded["embeds"], atol=1e-5)
        assert torch.allclose(cached["pooled"], encoded["pooled"], atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4, 8, 100])
def test_batches_run_across_grids(folder: Path, fill: Fill, base: Any, batch: int) -> None:
    """Frames of several grids share a batch, and each grid gets its own back."""
    assert fill(memory__encode_batch=batch) == made(grids=4, captions=4)
    cache = Cache.of(base, None)
    with base.vae() as vae:
        for sample in read_dataset(folder, GRID).train:
            wanted = join_cells(vae.encode(load_frames(sample.image, GRID), batch=8), GRID)
            assert torch.allclose(cache.latents(sample, GRID), wanted, atol=1e-4)


def test_the_second_time_nothing_is_computed_or_loaded(fill: Fill) -> None:
    assert fill() == made(grids=4, captions=4)
    assert fill() == []


def test_shards_fill_the_cache_together(fill: Fill) -> None:
    assert fill(shard=(1, 3)) == made(grids=2, captions=2)
    assert fill(shard=(2, 3)) == made(grids=1, captions=1)
    assert fill(shard=(1, 3)) == []
    assert fill() == made(grids=1, captions=1)


def test_an_empty_entry_is_made_again(fill: Fill, tmp_path: Path) -> None:
    fill()
    entries = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(entries) == 8
    for entry in entries:
        entry.write_bytes(b"")
    assert fill() == made(grids=4, captions=4)


def test_only_what_is_new_is_computed(folder: Path, fill: Fill) -> None:
    fill()
    image = folder / "clip_0002.png"
    pixels = np.asarray(Image.open(image)).copy()
    pixels[0, 0] ^= 1
    exif = Image.open(image).getexif()
    Image.fromarray(pixels).save(image, exif=exif)
    assert fill() == made(grids=1)
    (folder / "clip_0003.txt").write_text("another caption\n\nand one more\n")
    assert fill() == made(captions=2)
    (folder / "clip_0003.png").rename(folder / "moved.png")  # content counts, not the name
    (folder / "clip_0003.txt").rename(folder / "moved.txt")
    assert fill() == []


def test_every_setting_that_counts_makes_a_new_entry(fill: Fill, base: Any, tmp_path: Path) -> None:
    fill()
    assert fill(grid__cell="16x32") == made(grids=4)
    assert fill(model__text_tokens=16) == made(captions=4)
    assert fill(model__dtype="bfloat16") == made(captions=4)
    other = Path(shutil.copytree(base.folder, tmp_path / "model"))
    weights = next((other / "vae").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert fill(model__base=str(other)) == made(grids=4)


def test_captions_of_any_length_and_number(folder: Path, fill: Fill, base: Any) -> None:
    """More captions than are encoded at once, each found again under its own name."""
    captions = [f"a red circle number {k}" for k in range(19)] + ["ein Bär"]
    (folder / "clip_0001.txt").write_text("\n".join(captions))
    assert fill()[-1] == "23 encoding captions"
    cache = Cache.of(base, None)
    with base.text_encoders() as encode, torch.inference_mode():
        encoded = encode(captions)
    for index, caption in enumerate(captions):
        for name, tensor in cache.prompt(caption).items():
            assert torch.allclose(tensor[0], encoded[name][index], atol=1e-4)


def test_every_side_of_a_grid_is_in_a_name(folder: Path, base: Any) -> None:
    """A grid image without metadata can be cut in several ways."""
    cache, (sample, *_) = Cache.of(base, None), read_dataset(folder, GRID).train
    other = replace(sample, digest="0" * 64)
    paths = [
        next(iter(cache.grids({grid: [each]})))
        for each, grid in [
            (sample, GRID),
            (other, GRID),
            (sample, replace(GRID, rows=3)),
            (sample, replace(GRID, cols=2)),
            (sample, replace(GRID, cell=(16, 32))),
            (sample, replace(GRID, cell=(32, 16))),
            (sample, replace(GRID, order="serpentine")),
        ]
    ]
    assert len(set(paths)) == len(paths)
    assert next(iter(cache.grids({GRID: [replace(sample, image=Path("moved.png"))]}))) == paths[0]


def test_what_encodes_a_caption_is_in_its_name(base: Any) -> None:
    def name(base: Any, text_tokens: int | None = None, caption: str = "a") -> Path:
        return next(iter(Cache.of(base, text_tokens).prompts([caption])))

    names = [
        name(base),
        name(base, caption="b"),
        name(base, 32),
        name(replace(base, dtype=torch.bfloat16)),
        name(replace(base, text_quantize="int8")),
    ]
    assert len(set(names)) == len(names)
    assert name(base, None) == names[0]


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"])
def test_another_text_encoder_makes_new_prompts(base: Any, tmp_path: Path, part: str) -> None:
    other = Path(shutil.copytree(base.folder, tmp_path / "model"))
    before = Cache.of(replace(base, folder=other), None)
    assert before == Cache.of(base, None)
    file = next(path for path in sorted((other / part).iterdir()) if path.stat().st_size > 1000)
    file.write_bytes(file.read_bytes() + b" ")
    after = Cache.of(replace(base, folder=other), None)
    assert (after.vae_hash, after.text_hash == before.text_hash) == (before.vae_hash, False)
