"""FLUX.1's facts, held against diffusers' pipelines with FLUX.1's values.

The built-in VAE has shift 0 and scale 1, its prompts 40 tokens, its heads 32 channels: an error
in any of these would not show there, and would ruin every training on FLUX.1.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from einops import rearrange

from gridctl.diffusion.flow import default_mu, schedule, shift_sigma
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import Sampling, sample
from gridctl.geometry import Grid
from gridctl.models import flux1
from gridctl.models.base import FrameCoder
from gridctl.models.flux1 import patchify, predict, unpatchify
from gridctl.models.transformer import Denoiser

pytestmark = pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")

RED = "a red circle moving right on a black background"
SCHEDULER = {
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15,
    "shift": 3.0, "use_dynamic_shifting": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def vae() -> Any:
    """A small VAE with FLUX.1's shift and scale."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8, 8, 8, 8],
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=16,
        shift_factor=0.1159,
        scaling_factor=0.3611,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    ).eval()


def make_transformer(*, guidance_embeds: bool) -> Any:
    """FLUX.1's head size and positions at full width, few layers."""
    torch.manual_seed(1)
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=128,
        num_attention_heads=2,
        joint_attention_dim=48,
        pooled_projection_dim=24,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(16, 56, 56),
    ).eval()


def make_pipeline(vae: Any, transformer: Any) -> Any:
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# Latents.


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (4, 2), (8, 12)])
def test_patches_and_positions_are_diffusers(height: int, width: int) -> None:
    codes = torch.randn(2, 16, 2 * height, 2 * width)
    theirs = FluxPipeline._pack_latents(codes, 2, 16, 2 * height, 2 * width)
    latents = patchify(codes)
    assert latents.shape == (2, 64, height, width)
    assert torch.equal(rearrange(latents, "b c h w -> b (h w) c"), theirs)
    assert torch.equal(unpatchify(latents), codes)
    device = torch.device("cpu")
    ids = FluxPipeline._prepare_latent_image_ids(2, height, width, device, torch.float32)
    assert torch.equal(flux1.image_ids(height=height, width=width, device=device), ids)


def test_noise_is_drawn_in_the_vaes_layout() -> None:
    noise = flux1.draw_noise({"in_channels": 64}, 2, 3, torch.Generator().manual_seed(4))
    drawn = torch.randn(1, 16, 4, 6, generator=torch.Generator().manual_seed(4))
    assert noise.shape == (1, 64, 2, 3)
    assert torch.equal(noise[0, :, 1, 2], drawn[0, :, 2:4, 4:6].flatten())


def test_shift_and_scale_by_hand(vae: Any) -> None:
    codes = torch.full((1, 16, 2, 2), 1.1159)
    latents = flux1.to_latents(vae, codes)
    assert latents.shape == (1, 64, 1, 1)
    assert latents.flatten().tolist() == pytest.approx([0.3611] * 64)
    assert torch.allclose(flux1.to_codes(vae, latents), codes)


def test_frames_are_encoded_as_diffusers_encodes_images(vae: Any) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    pipeline: Any = SimpleNamespace(vae=vae)
    with torch.no_grad():
        theirs = FluxKontextPipeline._encode_vae_image(pipeline, pixels, [None] * 3)
    ours = FrameCoder(family=flux1, vae=vae).encode(frames, batch=2)
    assert ours.shape == (3, 64, 1, 2)
    assert torch.allclose(unpatchify(ours), theirs, atol=1e-5)


def test_latents_are_decoded_as_diffusers_decodes_them(vae: Any) -> None:
    """With the end of the pipeline: zero steps away from the latents it is given."""
    pipeline = make_pipeline(vae, make_transformer(guidance_embeds=True))
    torch.manual_seed(2)
    codes = torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        raw = codes / 0.3611 + 0.1159
        image = pipeline.image_processor.postprocess(vae.decode(raw).sample, output_type="np")
    ours = FrameCoder(family=flux1, vae=vae).decode(patchify(codes), batch=1)
    assert np.abs(ours[0] / 255 - image[0]).max() <= 0.5 / 255 + 1e-6


# The transformer.


def some_prompt(batch: int, *, tokens: int, width: int, pooled: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "embeds": torch.randn(batch, tokens, width, generator=generator),
        "pooled": torch.randn(batch, pooled, generator=generator),
    }


def test_predict_is_the_transformer_of_diffusers(transformer: Any) -> None:
    codes = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(1))
    prompt = some_prompt(2, tokens=7, width=128, pooled=64)
    sigma = torch.tensor([0.3, 0.9])
    with torch.inference_mode():
        ours = predict(transformer, patchify(codes), sigma, prompt, 2.5)
        tokens = transformer(
            hidden_states=FluxPipeline._pack_latents(codes, 2, 16, 4, 6),
            encoder_hidden_states=prompt["embeds"],
            pooled_projections=prompt["pooled"],
            timestep=sigma,
            img_ids=FluxPipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32),
            txt_ids=torch.zeros(7, 3),
            guidance=torch.tensor([2.5, 2.5]),
        ).sample
        other = predict(transformer, patchify(codes), sigma, prompt, 1.0)
    assert torch.equal(unpatchify(ours), FluxPipeline._unpack_latents(tokens, 32, 48, 8))
    assert not torch.allclose(ours, other)


@pytest.mark.parametrize("guidance_embeds", [True, False])
@pytest.mark.parametrize("start", [1.0, 0.4])
def test_a_prediction_is_a_step_of_the_pipeline(
    vae: Any, guidance_embeds: bool, start: float
) -> None:
    """One step of FluxPipeline to sigma 0, at the guidance of training.

    So patches, positions, 512 padded text tokens, timestep, shift, guidance (none for a base
    without its embedding) and the pooled vector are all the pipeline's.
    """
    transformer = make_transformer(guidance_embeds=guidance_embeds)
    torch.manual_seed(3)
    noisy = torch.randn(1, 64, 2, 6)
    prompt = some_prompt(1, tokens=512, width=48, pooled=24)
    mu = flux1.mu(SCHEDULER, 12, None)
    sigma = shift_sigma(torch.tensor([start], dtype=torch.float64), mu).float()
    with torch.no_grad():
        ours = predict(transformer, noisy, sigma, prompt, flux1.TRAINING_GUIDANCE)
        end = make_pipeline(vae, transformer)(
            prompt_embeds=prompt["embeds"],
            pooled_prompt_embeds=prompt["pooled"],
            height=32,
            width=96,
            num_inference_steps=1,
            sigmas=[start],
            guidance_scale=1.0,
            latents=rearrange(noisy, "b c h w -> b (h w) c"),
            output_type="latent",
        ).images
    theirs = (noisy - rearrange(end, "b (h w) c -> b c h w", h=2)) / sigma
    assert float(theirs.abs().mean()) > 0.05
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("true_cfg_scale", [1.0, 2.5])
def test_a_plain_plan_draws_what_the_pipeline_draws(base: Any, true_cfg_scale: float) -> None:
    """Everything together: tokenizers, encoders, positions, schedule, guidance, steps."""
    grid, steps = Grid(rows=2, cols=3, cell=(32, 48), order="serpentine"), 4
    with base.text_encoders() as encode, torch.inference_mode():
        prompt, empty = encode([RED]), encode([""])
    noise = base.noise_source(grid, 7)
    denoise = Denoiser(
        family=flux1,
        transformer=base.load_transformer(),
        prompt=prompt,
        empty=empty,
        guidance=3.5,
        true_cfg_scale=true_cfg_scale,
    )
    sampling = Sampling(sigmas=tuple(schedule(steps, base.mu(grid.num_tokens, steps=steps))))
    ours = sample(denoise, Plan.generate(grid), noise, sampling)
    pipeline = FluxPipeline.from_pretrained(base.folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    width, height = grid.image_size
    first = base.noise_source(grid, 7)()
    theirs = pipeline(
        RED,
        width=width,
        height=height,
        num_inference_steps=steps,
        sigmas=np.linspace(1.0, 1 / steps, steps),
        guidance_scale=3.5,
        negative_prompt="",
        true_cfg_scale=true_cfg_scale,
        latents=rearrange(first, "b c h w -> b (h w) c"),
        max_sequence_length=40,  # what the built-in base was trained with
        output_type="latent",
    ).images
    theirs = rearrange(theirs, "b (h w) c -> b c h w", w=width // 16)
    assert float((ours - first).abs().mean()) > 0.01  # something has happened
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance_embeds", [True, False])
def test_inputs_are_what_predict_gives_the_transformer(guidance_embeds: bool) -> None:
    transformer = make_transformer(guidance_embeds=guidance_embeds)
    seen: list[dict[str, Any]] = []
    transformer.register_forward_pre_hook(lambda *args: seen.append(args[2]), with_kwargs=True)
    prompt = some_prompt(2, tokens=5, width=48, pooled=24)
    with torch.inference_mode():
        predict(transformer, torch.randn(2, 64, 2, 3), torch.full((2,), 0.5), prompt, 1.0)
    inputs = flux1.inputs(
        transformer.config,
        batch=2,
        height=2,
        width=3,
        text_tokens=5,
        device="meta",
        dtype=torch.float32,
    )
    assert {**inputs, "return_dict": False}.keys() == seen[0].keys()
    for name, given in inputs.items():
        if given is None:
            assert seen[0][name] is None
        else:
            assert (given.shape, given.dtype) == (seen[0][name].shape, seen[0][name].dtype)
            assert given.is_meta


def test_lora_targets_are_every_linear_of_the_blocks_but_modulations() -> None:
    """12 kinds of linear in a double block and 5 in a single one."""
    transformer = make_transformer(guidance_embeds=True)
    names = {name for name, layer in transformer.named_modules() if hasattr(layer, "in_features")}
    trained = {name for name in names if re.fullmatch(flux1.LORA_TARGETS, name)}
    in_blocks = {name for name in names if "transformer_blocks." in name}
    modulations = {name for name in in_blocks if re.search(r"\.norm(1|1_context)?\.linear$", name)}
    assert (len(trained), len(modulations)) == (17, 3)
    assert trained == in_blocks - modulations
    double = {name for name in trained if name.startswith("transformer_blocks.")}
    assert (len(double), len(trained - double)) == (12, 5)


def test_blocks_are_in_the_order_in_which_they_run(transformer: Any) -> None:
    ran: list[Any] = []
    blocks = flux1.blocks(transformer)
    hooks = [block.register_forward_hook(lambda block, *_: ran.append(block)) for block in blocks]
    prompt = some_prompt(1, tokens=7, width=128, pooled=64)
    with torch.inference_mode():
        predict(transformer, torch.randn(1, 64, 1, 1), torch.ones(1), prompt, 1.0)
    for hook in hooks:
        hook.remove()
    assert ran == blocks
    assert len(blocks) == sum(transformer.config[key] for key in flux1.BLOCK_COUNTS) == 8


# Text.


@pytest.fixture(scope="module")
def encode(base: Any) -> Iterator[flux1.TextEncoders]:
    with base.text_encoders() as encoders, torch.inference_mode():
        yield encoders


def test_two_prompts_differ_in_both_tensors(encode: flux1.TextEncoders) -> None:
    """CLIP with a wrong end token pools the same vector for every prompt."""
    for tensor in encode([RED, RED.replace("red", "blue")]).values():
        assert float((tensor[0] - tensor[1]).abs().max()) > 1e-3
    order = encode(["red circle", "circle red"])["pooled"]
    assert float((order[0] - order[1]).abs().max()) > 1e-4


def test_prompts_do_not_change_each_other(encode: flux1.TextEncoders) -> None:
    together, alone = encode([RED, "a star"]), encode([RED])
    for name in ("embeds", "pooled"):
        assert torch.allclose(together[name][:1], alone[name], atol=1e-5)


@pytest.mark.parametrize("length", [40, 512])
@pytest.mark.parametrize("prompt", [RED, " ".join([RED] * 10)])
def test_prompts_are_encoded_as_by_the_pipeline(base: Any, length: int, prompt: str) -> None:
    """At the built-in model's length and at FLUX.1's. CLIP reads 77 tokens at either."""
    pipeline = FluxPipeline.from_pretrained(
        base.folder, transformer=None, vae=None, torch_dtype=torch.float32
    )
    embeds, pooled, _ = pipeline.encode_prompt(prompt, None, max_sequence_length=length)
    with base.text_encoders(length) as encode, torch.inference_mode():
        ours = encode([prompt])
    assert ours["embeds"].shape == (1, length, 128)
    assert torch.allclose(ours["embeds"], embeds, atol=1e-5)
    assert torch.allclose(ours["pooled"], pooled, atol=1e-5)


@pytest.mark.parametrize("limit", [512, None])
def test_flux_reads_512_tokens(base: Any, tmp_path: Path, limit: int | None) -> None:
    """Its T5 tokenizer says so; one that names no limit is taken for it."""
    shutil.copytree(base.folder / "tokenizer_2", tmp_path / "tokenizer_2")
    path = tmp_path / "tokenizer_2" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["model_max_length"]
    path.write_text(json.dumps(config | ({"model_max_length": limit} if limit else {})))
    flux = replace(base, folder=tmp_path)
    assert flux.text_limits(None).whole.tokens == 512
    assert flux.text_limits(64).whole.tokens == 64


def test_the_length_is_the_bases_own_or_a_setting(base: Any, encode: flux1.TextEncoders) -> None:
    assert encode([RED])["embeds"].shape == (1, 40, 128)
    assert encode([RED])["pooled"].shape == (1, 64)
    with base.text_encoders(16) as short, torch.inference_mode():
        assert short([RED])["embeds"].shape == (1, 16, 128)


# Figures.


def test_schnell_is_distilled_by_its_name_or_by_its_config(tmp_path: Path) -> None:
    assert flux1.is_distilled("black-forest-labs/FLUX.1-Schnell", None)
    assert not flux1.is_distilled("black-forest-labs/FLUX.1-dev", None)
    (tmp_path / "transformer").mkdir()
    for embeds in (True, False):
        (tmp_path / "transformer/config.json").write_text(json.dumps({"guidance_embeds": embeds}))
        assert flux1.is_distilled("schnell", tmp_path) is not embeds
    assert not flux1.takes_guidance({})


def test_mu_is_the_schedulers_whatever_the_steps() -> None:
    for steps in (None, 4, 50):
        assert flux1.mu(SCHEDULER, 6144, steps) == default_mu(SCHEDULER, 6144)


def test_sizes_are_those_of_the_full_models() -> None:
    parts = flux1.meta_parts("full")
    t5 = parts["text_encoder_2"][0]
    kept = t5.shared.weight.numel() + sum(b.layer[1].DenseReluDense.wo.weight.numel()
                                          for b in t5.encoder.block)  # fmt: skip
    clip = sum(p.numel() for p in parts["text_encoder"][0].parameters())
    linear = sum(p.numel() for p in t5.parameters()) - kept
    assert flux1.SIZES.text_linear == pytest.approx(linear, rel=0.001)
    assert flux1.SIZES.text_other == pytest.approx(kept + clip, rel=0.001)
    transformer = sum(p.numel() for p in parts["transformer"][0].parameters())
    vae = sum(p.numel() for p in parts["vae"][0].parameters())
    in_bfloat16 = 2 * (transformer + vae + linear + kept + clip) / 1e9
    assert flux1.SIZES.download_gib == pytest.approx(in_bfloat16, abs=0.5)
