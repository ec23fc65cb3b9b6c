"""The recipe of the built-in base, made small: it runs, goes on, and its result is a base."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.flux.base import open_base
from gridctl.generate import draw, prepare
from gridctl.toyworld.pretrain import __main__ as recipe
from gridctl.toyworld.pretrain import base as base_recipe
from gridctl.toyworld.pretrain import pictures, vae, words
from gridctl.toyworld.pretrain.model import build_vae
from gridctl.toyworld.pretrain.words import build_clip_tokenizer, build_t5_tokenizer, world_words


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few pictures where the recipe has thousands."""
    pool = pictures.picture_pool

    def few(path: Path, *, count: int, seed: int) -> Any:
        return pool(path, count=min(count, 12), seed=seed)

    monkeypatch.setattr(pictures, "picture_pool", few)
    monkeypatch.setattr(vae, "picture_pool", few)
    monkeypatch.setattr(base_recipe, "PICTURES", {64: 6, 96: 2})
    monkeypatch.setattr(base_recipe, "MAX_BATCH", 2)
    monkeypatch.setattr(words, "SCENES", 300)


def test_the_recipe_makes_a_base_and_goes_on_where_it_was(
    small: None,
    make_profile: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe.pretrain(tmp_path, vae_steps=2, base_steps=1, seed=1)
    made = tmp_path / "tiny"
    assert json.loads((made / "provenance.json").read_text())["base_steps"] == 1
    first = open_base(make_profile(model__base=str(made)))
    before = first.fingerprint("transformer"), first.fingerprint("vae")
    recipe.pretrain(tmp_path, vae_steps=2, base_steps=2, seed=1)
    after = first.fingerprint("transformer"), first.fingerprint("vae")
    assert after[0] != before[0]
    assert after[1] == before[1]  # done already, and the same again
    profile = make_profile(
        model__base=str(made), model__adapter="none", generate__steps=1, grid__rows=1
    )
    result = draw(prepare("t2v", ["a red circle"], tmp_path / "clip", profile=profile))
    assert len(list(result.written[0].glob("*.png"))) == 3
    with first.text_encoders() as encode, torch.inference_mode():
        embeds, _ = encode(["red circle", "Red circle", "blue circle"])
    assert torch.equal(embeds[0], embeds[1])  # capitals mean the same
    assert not torch.equal(embeds[0], embeds[2])


def test_every_word_of_the_world_is_one_token() -> None:
    world = world_words()
    assert {"red", "circle", "grid", "frames", "reading", "serpentine"} <= set(world)
    t5, clip = build_t5_tokenizer(world), build_clip_tokenizer(world)
    for word in world:
        assert len(t5(word).input_ids) == 2, word  # and the end
        assert len(t5(word.capitalize()).input_ids) == 2, word
        parts = re.findall(r"\w+|\W", word)  # CLIP takes hyphens apart
        assert len(clip(word).input_ids) == 2 + len(parts), word  # between start and end
    assert len(t5("zebra").input_ids) > 2
    assert clip("red").input_ids[-1] == clip.eos_token_id


def test_a_step_is_a_function_of_seed_and_step(small: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_vae()
    model.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    some = base_recipe.encode_pictures(tmp_path, model, seed=1)
    again = base_recipe.encode_pictures(tmp_path, model, seed=1)
    kinds = set()
    for step in range(20):
        latents, captions = base_recipe.draw_batch(some, seed=1, step=step)
        others, words_ = base_recipe.draw_batch(again, seed=1, step=step)
        assert torch.equal(latents, others)
        assert captions == words_
        assert len(latents) == len(captions) <= 2
        assert latents.shape[1] == 16
        kinds.add(tuple(latents.shape[2:]))
    assert len(kinds) > 2  # single pictures and collages of several sizes
