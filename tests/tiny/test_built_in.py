"""Claims about the weights that ship; `gridctl bench quality` measures them in full."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tiny_model.meaning import NAMES, draw_prompts

from gridctl.bench.quality import QualityResult, bench_quality
from gridctl.generate import Request, render
from gridctl.generate.job import find_adapter
from gridctl.generate.tasks import image
from gridctl.models.base import open_base
from gridctl.profile import Profile, load_profile
from gridctl.prompt import grid_prompt
from gridctl.tiny.captions import clip_caption
from gridctl.tiny.scene import sample_scene
from gridctl.tiny.weights import BASE_FOLDER, WEIGHTS


@pytest.fixture(scope="module")
def tiny() -> Profile:
    return load_profile("tiny").profile


def rates(result: QualityResult) -> dict[str, float]:
    return {score.what: score.rate for score in result.scores}


def test_all_that_ships_is_within_16_megabytes() -> None:
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors"))
    assert size <= 16e6


def test_provenance_says_how_the_weights_came_about() -> None:
    provenance = json.loads((BASE_FOLDER / "provenance.json").read_text())
    assert {"commit", "base_steps", "vae_steps", "base_loss", "quality"} <= provenance.keys()


def test_the_vae_loses_next_to_nothing(tiny: Profile, tmp_path: Path) -> None:
    figures = bench_quality(tiny, tmp_path / "report", count=8, parts=["vae"]).figures
    assert figures["vae PSNR dB"].value > 32


def test_clips_follow_their_prompts(tiny: Profile, tmp_path: Path) -> None:
    rate = rates(bench_quality(tiny, tmp_path / "report", count=8, parts=["t2v"]))
    assert min(rate["background"], rate["color"]) > 0.9
    assert rate["all"] > 0.7  # shape and motion too


@pytest.mark.parametrize("attribute", ["shape", "color", "background", "style", "motion"])
def test_prompts_can_be_told_apart_by_both_encoders(tiny: Profile, attribute: str) -> None:
    """A linear map must read what an adapter is to follow: encoders are frozen then."""
    names = NAMES[attribute]
    prompts, scenes = draw_prompts(500, seed=11, step=0)
    with open_base(tiny).text_encoders() as encode, torch.inference_mode():
        encoded = encode(prompts)
    right = torch.tensor([names.index(getattr(scene, attribute)) for scene in scenes])
    seen, fresh = slice(None, 350), slice(350, None)
    for features in (encoded["embeds"].mean(1), encoded["pooled"]):
        features = F.pad(features, (0, 1), value=1.0)
        target = F.one_hot(right[seen], len(names)).float()
        gram = features[seen].T @ features[seen] + 1e-3 * torch.eye(features.shape[1])
        fitted = torch.linalg.solve(gram, features[seen].T @ target)
        assert ((features[fresh] @ fitted).argmax(-1) == right[fresh]).float().mean() > 0.9


def test_a_layout_does_not_move_clips_vector(tiny: Profile) -> None:
    """The base has met contents alone: it draws noise if a layout moves the vector."""
    rng = np.random.default_rng(5)
    contents = [clip_caption(sample_scene(rng, held_out=True), rng) for _ in range(100)]
    grid = tiny.grid.to_grid()
    with open_base(tiny).text_encoders() as encode, torch.inference_mode():
        alone = encode(contents)["pooled"]
        laid_out = encode([grid_prompt(grid, content) for content in contents])["pooled"]
    assert F.mse_loss(laid_out, alone) < 0.05 * alone.var(0).mean()


def test_images_without_adapter_are_the_bases(tiny: Profile) -> None:
    prompts = ("a red circle on a black background",)
    drawing = image(Request(prompts=prompts, output=Path("x.png"), profile=tiny))
    off = replace(
        drawing,
        adapter=find_adapter(tiny),
        profile=drawing.profile.with_values({"model.adapter_scale": 0.0}),
    )
    on = replace(drawing, adapter=find_adapter(tiny))
    plain, off_frames, on_frames = (next(render(made))[1] for made in (drawing, off, on))
    assert np.array_equal(plain, off_frames)
    assert not np.array_equal(plain, on_frames)


@pytest.mark.slow
def test_the_base_knows_nothing_of_time(tiny: Profile, tmp_path: Path) -> None:
    """At most the share of ten motions that chance would give."""
    rate = rates(bench_quality(tiny, tmp_path / "report", count=100, parts=["base"]))
    assert rate["motion"] < 0.2
    assert rate["background"] > 0.7  # it has never read a layout prompt


@pytest.mark.slow
def test_single_images_are_as_good_with_the_adapter_on(tiny: Profile, tmp_path: Path) -> None:
    parts = ["image", "image+adapter"]
    result = bench_quality(tiny, tmp_path / "report", count=100, parts=parts)
    right = {score.part: score.rate for score in result.scores if score.what == "all"}
    assert right["image"] > 0.8
    assert right["image+adapter"] > right["image"] - 0.05


@pytest.mark.slow
def test_a_turn_shows_the_solid_that_was_asked_for(tiny: Profile, tmp_path: Path) -> None:
    rate = rates(bench_quality(tiny, tmp_path / "report", count=6, parts=["turn"]))
    assert min(rate["background"], rate["color"], rate["shape"]) > 0.8
    assert rate["turn order"] > 0.6
