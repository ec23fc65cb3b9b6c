"""The recipe of the built-in base, made small: it runs, goes on, and its result is a base."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pretrain as recipe
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from tiny_model import base, batches, hints, vae
from tiny_model import model as parts
from tiny_model.batches import picture_pool, to_pixels
from tiny_model.codec import prepare_vae, read_code
from tiny_model.meaning import MeaningHead, calm_vector, draw_prompts, teach_words
from tiny_model.model import (
    TEXT_TOKENS,
    build_clip_tokenizer,
    build_t5_tokenizer,
    build_text,
    build_transformer,
    build_vae,
    world_words,
)
from tiny_model.muon import Muon
from torch import nn
from typer import BadParameter

from gridctl.generate import Request, draw
from gridctl.generate.tasks import t2v
from gridctl.geometry import Grid
from gridctl.models.base import open_base
from gridctl.models.flux1 import predict
from gridctl.tiny.scene import Scene, is_held_out
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few pictures where the recipe has thousands."""
    for name in ("POOL", "CODED", "FRESH"):
        monkeypatch.setattr(recipe, name, 12)
    monkeypatch.setattr(batches, "PICTURES", {64: 6, 96: 2, 128: 2})
    monkeypatch.setattr(base, "TOKENS_PER_STEP", 384 + TEXT_TOKENS)
    monkeypatch.setattr(parts, "SCENES", 300)


def test_the_recipe_makes_a_base_and_resumes(
    small: None,
    make_profile: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe.pretrain(tmp_path, vae_steps=2, base_steps=1, seed=1)
    made = tmp_path / "tiny"
    assert json.loads((made / "provenance.json").read_text())["base_steps"] == 1
    first = open_base(make_profile(model__base=str(made)))
    words_before = [path.read_text() for path in sorted(made.glob("tokenizer*/tokenizer.json"))]
    before = first.fingerprint("transformer"), first.fingerprint("vae")
    recipe.pretrain(tmp_path, vae_steps=2, base_steps=2, seed=1)
    after = first.fingerprint("transformer"), first.fingerprint("vae")
    numbered = [path.read_text() for path in sorted(made.glob("tokenizer*/tokenizer.json"))]
    assert after[0] != before[0]
    assert after[1] == before[1]  # done already, and the same again
    assert numbered == words_before
    loss = json.loads((made / "provenance.json").read_text())["base_loss"]
    recipe.pretrain(tmp_path, vae_steps=2, base_steps=2, seed=1)  # all done: nothing is lost
    assert json.loads((made / "provenance.json").read_text())["base_loss"] == loss
    profile = make_profile(
        model__base=str(made), model__adapter="none", generate__steps=1, grid__rows=1
    )
    request = Request(prompts=("a red circle",), output=tmp_path / "clip", profile=profile)
    result = draw(t2v(request))
    assert len(list(result.written[0].glob("*.png"))) == 3
    with first.text_encoders() as encode, torch.inference_mode():
        embeds = encode(["red circle", "Red circle", "blue circle"])["embeds"]
    assert torch.equal(embeds[0], embeds[1])  # capitals mean the same
    assert not torch.equal(embeds[0], embeds[2])


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seed": 2}, "seed 1 -> 2"),
        ({"base_steps": 4}, "base_steps 5 -> 4"),
        ({"vae_steps": 1, "start": Path("tiny")}, "start None -> tiny, vae_steps 5 -> 1"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    tmp_path: Path, other: dict[str, Any], told: str
) -> None:
    (tmp_path / "settings.json").write_text('{"seed": 1, "start": null, "vae": 5, "base": 5}')
    settings: dict[str, Any] = {"vae_steps": 5, "base_steps": 5, "seed": 1}
    with pytest.raises(BadParameter, match=f"other settings: {told}"):
        recipe.pretrain(tmp_path, **settings | other)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_the_recipe_goes_on_from_an_earlier_result(small: None, tmp_path: Path) -> None:
    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return load_file(folder / "tiny" / "transformer" / "diffusion_pytorch_model.safetensors")

    recipe.pretrain(tmp_path / "first", vae_steps=1, base_steps=2, seed=1)
    start = tmp_path / "first" / "tiny"
    recipe.pretrain(tmp_path / "more", vae_steps=1, base_steps=1, seed=2, start=start)
    first, more = weights(tmp_path / "first"), weights(tmp_path / "more")
    provenance = json.loads((tmp_path / "more" / "tiny" / "provenance.json").read_text())
    assert provenance["start"] == json.loads((start / "provenance.json").read_text())
    for kept in ("vae/config.json", "tokenizer/tokenizer.json", "tokenizer_2/tokenizer.json"):
        assert (tmp_path / "more" / "tiny" / kept).read_text() == (start / kept).read_text(), kept
    vaes = [load_file(tmp_path / name / "tiny" / "vae" / "diffusion_pytorch_model.safetensors")
            for name in ("first", "more")]  # fmt: skip
    assert all(torch.equal(vaes[0][name], vaes[1][name]) for name in vaes[0])
    changed = [(more[name] - first[name]).abs().max().item() for name in first]
    assert 0 < max(changed) < 0.01  # a step of the warm-up


def test_prompts_of_the_lesson_repeat_by_step() -> None:
    prompts, scenes = draw_prompts(40, seed=1, step=3)
    assert (prompts, scenes) == draw_prompts(40, seed=1, step=3)
    assert prompts != draw_prompts(40, seed=1, step=4)[0]
    assert not any(is_held_out(scene) for scene in scenes)
    assert {"grid", "moving"} <= {word for prompt in prompts for word in prompt.split()}


@pytest.mark.slow
def test_the_lesson_teaches_both_encoders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(parts, "SCENES", 300)
    text, head = build_text(tmp_path), MeaningHead()
    before = [copy.deepcopy(model.state_dict()) for model in (text.clip, text.t5)]
    first = head.loss(text, seed=1, step=0, texts=200).item()
    teach_words(text, head, steps=60, seed=1, log=lambda _: None)
    assert head.loss(text, seed=1, step=0, texts=200).item() < 0.75 * first
    for model, was in zip((text.clip, text.t5), before, strict=True):
        assert any(not torch.equal(value, was[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(small: None, tmp_path: Path) -> None:
    losses = []
    for name, compiled in (("a", False), ("b", True)):
        recipe.pretrain(tmp_path / name, base_steps=2, seed=1, only="base", compiled=compiled)
        _, _, facts = read_checkpoint(list_checkpoints(tmp_path / name / "base")[-1])
        losses.append(float(facts["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


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


def test_the_encoder_is_the_linear_code() -> None:
    torch.manual_seed(0)  # the decoder's other weights are drawn by lot
    pictures = to_pixels(picture_pool(40, seed=3))
    model = build_vae()
    code = prepare_vae(model, pictures)
    coded = code.encode(pictures)
    with torch.no_grad():
        encoded = model.encode(pictures).latent_dist
        mean_color = F.avg_pool2d(pictures, 8)
        drawn = F.avg_pool2d(model.decode(coded).sample, 8)
    assert torch.allclose(encoded.mode(), coded, atol=2e-3)
    assert encoded.std.unique().numel() == 1  # a constant posterior
    assert coded.mean().item() == pytest.approx(0, abs=1e-3)
    assert coded.square().mean().item() == pytest.approx(1, abs=1e-2)
    spread = coded.square().mean((0, 2, 3))
    assert (spread.diff() < 1e-3).all()  # the most important first
    # The decoder starts with the mean colours (of the code's best guess of them).
    assert (drawn - mean_color).square().mean() < 0.01
    assert torch.equal(prepare_vae(build_vae(), pictures).weight, code.weight)
    assert torch.equal(read_code(model).weight, code.weight)
    assert torch.equal(read_code(model).offset, code.offset)


def test_training_the_decoder_leaves_the_encoder_alone(tmp_path: Path) -> None:
    pool = picture_pool(8, seed=3)
    model = build_vae()
    prepare_vae(model, to_pixels(pool))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    vae.train_decoder(tmp_path, model, pool, steps=2, seed=1, device="cpu", log=lambda _: None)
    changed = {name.split(".")[0] for name, tensor in model.state_dict().items()
               if not torch.equal(tensor, before[name])}  # fmt: skip
    assert changed == {"decoder"}
    assert torch.equal(model.decoder.conv_in.bias[:2], before["decoder.conv_in.bias"][:2])


def test_a_step_is_a_function_of_seed_and_step(small: None) -> None:
    code = prepare_vae(build_vae(), to_pixels(picture_pool(4, seed=3)))
    some, again = (batches.draw_pictures(code, seed=1) for _ in range(2))
    sizes = set()
    for step in range(20):
        batch, same = (
            batches.draw_batch(pictures, seed=1, step=step, only_singles=step < 5, tokens=1000)
            for pictures in (some, again)
        )
        assert torch.equal(batch.latents, same.latents)
        assert batch.captions == same.captions
        count, channels, height, width = batch.latents.shape
        tokens = height * width
        assert (len(batch.captions), channels) == (count, 64)
        assert batch.text_tokens in ({16, TEXT_TOKENS} if tokens <= 64 else {TEXT_TOKENS})
        assert count * (tokens + batch.text_tokens) <= 1000
        assert batch.hints.shape == (count, tokens, hints.WIDTH)
        assert batch.grid.num_tokens == tokens
        if step < 5:
            assert (height, width) in {(4, 4), (6, 6), (8, 8)}
        sizes.add((height, width))
    assert len(sizes) > 4  # single pictures and collages of several sizes


def test_hints_name_the_object_and_its_place() -> None:
    scene = Scene(
        kind="shape", shape="star", color="blue", background="gray", motion="standing still",
        x=0.25, y=0.75, size=0.3,
    )  # fmt: skip
    whole = torch.tensor([hints.picture_hints(scene, 0.5)])
    assert whole[0, :27].sum() == 4  # one shape, one colour, one background, one style
    tokens = hints.token_hints(whole, 4)
    assert tokens.shape == (1, 4, 4, hints.WIDTH)
    assert torch.equal(tokens[0, 0, 0, :27], whole[0, :27])
    x, y, radius = tokens[0, 3, 1, 27:30].tolist()  # the token around (0.375, 0.875)
    assert (x, y) == pytest.approx(((0.25 - 0.375) * 3, (0.75 - 0.875) * 3), abs=1e-6)
    assert radius == pytest.approx((0.3 - 0.27) * 8)
    solid = Scene(
        kind="solid", shape="cube", color="red", background="black", motion="turning", size=0.3
    )
    assert hints.picture_hints(solid, 0.25)[-2:] == pytest.approx([0, 1], abs=1e-9)


@pytest.mark.slow
def test_a_layout_no_longer_moves_clips_vector(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(parts, "SCENES", 300)
    text = build_text(tmp_path)
    teach_words(text, MeaningHead(), steps=30, seed=1, log=lambda _: None)
    untouched = copy.deepcopy(text.clip.state_dict())
    before = calm_vector(text, steps=0, seed=1, log=lambda _: None)
    for name, value in text.clip.state_dict().items():
        assert torch.equal(value, untouched[name])
    assert calm_vector(text, steps=150, seed=1, log=lambda _: None) < 0.5 * before


def test_places_say_which_cell_a_token_belongs_to() -> None:
    grid = Grid(rows=2, cols=3, cell=(64, 32))  # 4x12 tokens
    places = hints.token_places(grid).unflatten(0, (4, 12))
    assert places.shape == (4, 12, hints.PLACE_WIDTH)
    shares = places[..., :3] / 3.5 + 0.5
    assert shares[0, 0].tolist() == pytest.approx([0.5 / 6, 1 / 4, 1 / 6])
    assert shares[1, 3].tolist() == pytest.approx([0.5 / 6, 1 / 4, 1 / 6])
    assert shares[2, 4].tolist() == pytest.approx([4.5 / 6, 3 / 4, 3 / 6])
    assert places[3, 11, 3:].tolist() == pytest.approx([3 / 8, 11 / 8])


@pytest.mark.slow
def test_an_early_block_learns_its_cell() -> None:
    """From noise, whose tokens look all alike: only positions can tell."""
    torch.manual_seed(0)
    transformer, grid = build_transformer(), Grid(rows=2, cols=3, cell=(32, 32))
    head = hints.place_head(transformer.transformer_blocks[-1], transformer.inner_dim)
    places = hints.token_places(grid)
    model = torch.nn.ModuleDict({"transformer": transformer, "head": head})
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    pooled = torch.randn(1, 64).expand(8, -1)
    prompt = {"embeds": torch.randn(1, 4, 128).expand(8, -1, -1), "pooled": pooled}
    losses = []
    for _ in range(60):
        noise, sigma = torch.randn(8, 64, 4, 6), torch.ones(8)
        predict(transformer, noise, sigma=sigma, prompt=prompt, guidance=1.0)
        loss = head.loss(places)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_muon_steps_are_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((6, 6), (4, 9), (9, 4)):
        weight = nn.Parameter(torch.zeros(shape))
        optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
        weight.grad = torch.randn(shape) * 1e-3
        optimizer.step()
        values = torch.linalg.svdvals(weight.detach()) / (0.1 * max(1, shape[0] / shape[1]) ** 0.5)
        assert 0.5 < values.min() <= values.max() < 1.3
        agreement = (weight.detach() * weight.grad).sum()
        assert agreement < 0  # downhill


def test_what_muon_remembers_survives_a_checkpoint(tmp_path: Path) -> None:
    """Steps taken before and after a stop are those without one."""
    torch.manual_seed(0)
    gradients = torch.randn(4, 5, 3)
    whole, halves = nn.Parameter(torch.ones(5, 3)), nn.Parameter(torch.ones(5, 3))
    optimizer = Muon([whole], lr=0.1)
    first = Muon([halves], lr=0.1)
    for index, gradient in enumerate(gradients):
        whole.grad = halves.grad = gradient
        optimizer.step()
        if index == 2:
            kept = optimizer_tensors(first)
            first = Muon([halves], lr=0.1)
            load_optimizer(first, kept)
        first.step()
    assert torch.equal(whole, halves)
