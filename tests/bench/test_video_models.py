"""The arithmetic and seconds of video models."""

import re
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline, WanPipeline

from gridctl.bench.video_models import (
    GRIDCTL,
    VIDEO_MODELS,
    ModelSpec,
    count_arithmetic,
    flops,
    small,
    time_parts,
)
from gridctl.models.flops import Flops


def test_seconds_come_by_part_as_they_are_measured() -> None:
    notes: list[str] = []
    table = time_parts(["wan", "ltx"], torch.device("cpu"), repeats=1, note=notes.append)
    assert "only a test" in table.title
    assert len(notes) == len(table.rows) == 5
    for row in table.rows:
        name, clip, passes, one, text, vae, whole, rate, megapixels = row
        model = next(r for r in (GRIDCTL, *VIDEO_MODELS.values()) if r.name == name)
        decodes = 6 if model is GRIDCTL else 1
        expected = passes * one + (1 + model.guided) * text + decodes * vae
        assert passes == model.passes
        assert whole == pytest.approx(expected, rel=0.01)
        frames, width, height = map(int, re.findall(r"\d+", clip))
        assert rate == pytest.approx(frames / whole, rel=0.01)
        assert megapixels == pytest.approx(frames * width * height / whole / 1e6, rel=0.01)


def test_arithmetic_is_added_up_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.bench.video_models.flops", lambda part: 1e12)
    table = count_arithmetic(["wan"], lambda text: None)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    ours, matched, native = rows
    # A pass is 1 TFLOP here: 20 of the transformer, 1 of the text, 24 cells of the VAE.
    assert (ours["passes"], ours["TFLOP a clip"]) == (20, 45)
    assert ours["a frame"] == pytest.approx(45 / 24)
    assert ours["a megapixel"] == pytest.approx(45 / (24 * 0.065536), rel=1e-3)
    # 50 steps with guidance, so two passes each, and two of the text; one of the VAE.
    assert (matched["clip"], matched["TFLOP a clip"]) == ("25 x 256x256", 103)
    assert matched["gridctl / this"] == pytest.approx(45 / 103, rel=1e-3)
    assert native["a frame"] == pytest.approx(103 / 81, rel=1e-3)


@pytest.mark.slow
def test_arithmetic_is_counted_at_full_size() -> None:
    table = count_arithmetic(["wan", "ltx"], lambda text: None)
    clips = {(row[0], row[1]): row[4] for row in table.rows}
    ours = Flops.of(GRIDCTL.transformer, image_tokens=6144, text_tokens=512)
    assert clips["gridctl, FLUX.1-dev", "24 x 256x256"] == pytest.approx(
        ours.forward / 1e12, rel=0.01
    )
    # Two FLOPs for each of 1.3 billion weights and token, and attention's 4 N^2 D.
    tokens, width, layers = 21 * 30 * 52, 1536, 30
    by_hand = (2 * 1.3e9 * tokens + 4 * tokens**2 * width * layers) / 1e12
    assert clips["Wan 2.1 1.3B", "81 x 832x480"] == pytest.approx(by_hand, rel=0.05)


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_parts_are_what_the_pipeline_of_diffusers_runs(name: str) -> None:
    model = small(VIDEO_MODELS[name])
    clip = model.matched
    parts = model.build(model, clip)
    transformer, vae = parts["transformer"].make(), parts["VAE"].make()
    seen: list[dict[str, Any]] = []
    transformer.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True
    )
    frames = run_pipeline(name, model, transformer, vae, steps=2)
    assert sum(len(call["hidden_states"]) for call in seen) == 2 * model.passes / model.steps
    inputs = parts["transformer"].inputs(torch.zeros)
    for key in ("hidden_states", "encoder_hidden_states"):
        assert seen[0][key].shape[1:] == inputs[key].shape[1:]
    assert frames.shape == (1, clip.frames, 3, clip.height, clip.width)
    with torch.no_grad():
        decoded = vae.decode(**parts["VAE"].inputs(torch.zeros)).sample
    assert decoded.shape == (1, 3, clip.frames, clip.height, clip.width)
    assert flops(parts["transformer"]) > 0


def run_pipeline(name: str, model: ModelSpec, transformer: Any, vae: Any, *, steps: int) -> Any:
    """Diffusers' own pipeline at its own guidance, on random embeddings."""
    pipeline_class = {"wan": WanPipeline, "ltx": LTXPipeline}[name]
    pipeline = pipeline_class(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    embeds = torch.randn(1, model.text_tokens, model.text["d_model"])
    masks = {}
    if name == "ltx":
        ones = torch.ones(1, model.text_tokens)
        masks = {"prompt_attention_mask": ones, "negative_prompt_attention_mask": ones}
    return pipeline(
        prompt_embeds=embeds,
        negative_prompt_embeds=embeds,
        num_frames=model.matched.frames,
        height=model.matched.height,
        width=model.matched.width,
        num_inference_steps=steps,
        output_type="pt",
        **masks,
    ).frames
