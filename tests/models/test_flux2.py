"""FLUX.2-klein's facts, held against diffusers' Flux2KleinPipeline with random weights."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline
from einops import rearrange
from PIL import Image

from gridctl.diffusion.flow import schedule
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import Sampling, sample
from gridctl.geometry import Grid
from gridctl.models import flux2
from gridctl.models.base import BaseModel, FrameCoder
from gridctl.models.flops import Flops
from gridctl.models.flux2 import predict
from gridctl.models.transformer import Denoiser
from tests.klein import SCHEDULER, WIDTH

RED = "a red circle moving right on a black background"
GRID = Grid(rows=2, cols=3, cell=(32, 48), order="serpentine")  # 36 tokens


def open_klein(folder: Path) -> BaseModel:
    return BaseModel(
        name=str(folder),
        folder=folder,
        device=torch.device("cpu"),
        dtype=torch.float32,
        quantize="none",
        offload="none",
    )


@pytest.fixture(scope="module")
def base(klein: Path) -> BaseModel:
    return open_klein(klein)


@pytest.fixture(scope="module")
def pipeline(klein: Path) -> Any:
    """diffusers' own pipeline, with the base's weights."""
    pipeline = Flux2KleinPipeline.from_pretrained(klein, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def transformer(pipeline: Any) -> Any:
    return pipeline.transformer.eval()


@pytest.fixture(scope="module")
def prompts(base: BaseModel) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A prompt and the empty prompt, encoded."""
    with base.text_encoders() as encode, torch.inference_mode():
        return encode([RED]), encode([""])


def some_prompt(batch: int, tokens: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"embeds": torch.randn(batch, tokens, 3 * WIDTH, generator=generator)}


def some_latents(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 128, height, width, generator=generator)


def some_frames(count: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


# The whole model.


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("steps", [3, 20])
@pytest.mark.parametrize("distilled", [False, True])
def test_a_plain_plan_draws_what_the_pipeline_draws(
    base: BaseModel,
    pipeline: Any,
    prompts: Any,
    monkeypatch: pytest.MonkeyPatch,
    distilled: bool,
    steps: int,
    with_reference: bool,
) -> None:
    """Tokenizer, template, layers, positions, schedule, guidance, reference, batch norm."""
    monkeypatch.setitem(pipeline.config, "is_distilled", distilled)
    picture = some_frames(1, (64, 64))
    with base.vae() as vae:
        references = [vae.encode(picture, batch=1)] if with_reference else []
    denoise = Denoiser(
        family=flux2,
        transformer=base.load_transformer(),
        prompt=prompts[0],
        empty=prompts[1],
        true_cfg_scale=1.0 if distilled else 4.0,
        references=references,
    )
    mu = base.mu(GRID.num_tokens, steps=steps)
    ours = sample(
        denoise,
        Plan.generate(GRID),
        base.noise_source(GRID, 7),
        Sampling(sigmas=tuple(schedule(steps, mu))),
    )
    width, height = GRID.image_size
    theirs = pipeline(
        image=Image.fromarray(picture[0]) if with_reference else None,
        prompt=RED,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=1.0 if distilled else 4.0,
        latents=base.noise_source(GRID, 7)(),
        output_type="latent",
    ).images
    ours = flux2.to_codes(pipeline.vae, ours)
    assert float((ours - flux2.to_codes(pipeline.vae, base.noise_source(GRID, 7)())).std()) > 0.1
    assert torch.allclose(ours, theirs, atol=2e-4, rtol=2e-4)


def test_prompts_are_encoded_as_the_pipeline_encodes_them(
    base: BaseModel, pipeline: Any, prompts: Any
) -> None:
    with torch.no_grad():
        theirs, ids = pipeline.encode_prompt(RED)
        empty, _ = pipeline.encode_prompt("")
    assert theirs.shape == (1, 512, 3 * WIDTH)
    assert torch.allclose(prompts[0]["embeds"], theirs, atol=1e-5)
    assert torch.allclose(prompts[1]["embeds"], empty, atol=1e-5)
    assert not torch.allclose(theirs, empty, atol=0.1)
    assert torch.equal(flux2.text_ids(512, device="cpu"), ids[0])


def test_a_prompt_is_the_same_alone_and_among_others(base: BaseModel) -> None:
    with base.text_encoders(40) as encode, torch.inference_mode():
        both, alone = encode([RED, "a star"])["embeds"], encode(["a star"])["embeds"]
    assert both.shape == (2, 40, 3 * WIDTH)
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_layers_that_nobody_reads_are_dropped(base: BaseModel) -> None:
    with base.text_encoders() as encode:
        assert len(encode.qwen.layers) == 28  # type: ignore[attr-defined]


def test_a_prompts_limit_leaves_room_for_the_template(klein: Path) -> None:
    limits = flux2.text_limits(klein, None)
    assert limits.whole == limits.opening
    assert (limits.whole.tokens, flux2.text_limits(None, 100).whole.tokens) == (500, 88)
    assert limits.whole.fits(RED)
    assert not limits.whole.fits("circle, " * 500)
    assert flux2.text_limits(None, None).whole.fits(RED)


# Latents.


def test_frames_are_encoded_as_the_pipeline_encodes(base: BaseModel, pipeline: Any) -> None:
    frames = some_frames(3)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    with base.vae() as vae, torch.no_grad():
        ours = vae.encode(frames, batch=2)
        theirs = [pipeline._encode_vae_image(frame[None], None) for frame in pixels]
    assert ours.shape == (3, 128, 2, 3)
    assert torch.allclose(ours, torch.cat(theirs), atol=1e-4)
    assert float(ours.std()) > 0.1


def test_latents_are_decoded_as_the_pipeline_decodes_them(pipeline: Any) -> None:
    """With the end of the pipeline, whose only step adds a known velocity."""
    latents = some_latents(2, 2, 3)
    vae = pipeline.vae.eval()
    codes = flux2.to_codes(vae, latents)
    scale = (vae.bn.running_var + 1e-4).sqrt().view(1, -1, 1, 1)
    raw = latents * scale + vae.bn.running_mean.view(1, -1, 1, 1)
    with torch.no_grad():
        image = vae.decode(pipeline._unpatchify_latents(raw)).sample
        pixels = pipeline.image_processor.postprocess(image, output_type="np")
    decoded = FrameCoder(family=flux2, vae=vae).decode(latents, batch=1)
    assert np.abs(decoded / 255 - pixels).max() <= 0.5 / 255 + 1e-5
    assert torch.allclose(flux2.to_latents(vae, codes), latents, atol=1e-5)


def test_noise_is_drawn_as_the_pipeline_draws_it() -> None:
    noise = flux2.draw_noise({"in_channels": 128}, 2, 3, torch.Generator().manual_seed(4))
    assert torch.equal(noise, torch.randn(1, 128, 2, 3, generator=torch.Generator().manual_seed(4)))


# The schedule.


@pytest.mark.parametrize(
    ("tokens", "steps", "mu"),
    # 0.00016927 t + 0.45666666 above 4,300 tokens, and at 200 steps; at 4,096 tokens m10 = 2.2562,
    # m200 = 1.1500, and 40 of the 190 steps between them are gone at 50.
    [(6144, 50, 1.4967), (6144, 4, 1.4967), (4096, 50, 2.0234), (4301, 50, 1.1847)],
)
def test_the_shift_by_hand(tokens: int, steps: int, mu: float) -> None:
    assert flux2.mu(SCHEDULER, tokens, steps) == pytest.approx(mu, abs=1e-4)


@pytest.mark.parametrize("tokens", [36, 4096, 4300, 4301, 6144])
@pytest.mark.parametrize("steps", [1, 4, 10, 50, 200])
def test_the_shift_is_the_pipelines(tokens: int, steps: int) -> None:
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    assert flux2.mu(SCHEDULER, tokens, steps) == pytest.approx(compute_empirical_mu(tokens, steps))


def test_training_has_the_shift_of_flux_1() -> None:
    assert flux2.mu(SCHEDULER, 256, None) == pytest.approx(0.5)
    assert flux2.mu(SCHEDULER, 4096, None) == pytest.approx(1.15)


# The transformer.


def test_predict_is_the_transformer_of_diffusers(transformer: Any) -> None:
    latents, prompt, sigma = some_latents(2, 2, 3), some_prompt(2), torch.tensor([0.3, 0.9])
    with torch.inference_mode():
        ours = predict(transformer, latents, sigma, prompt, 1.0)
        tokens = transformer(
            hidden_states=Flux2KleinPipeline._pack_latents(latents),
            encoder_hidden_states=prompt["embeds"],
            timestep=sigma,
            img_ids=Flux2KleinPipeline._prepare_latent_ids(latents),
            txt_ids=Flux2KleinPipeline._prepare_text_ids(prompt["embeds"]),
        ).sample
    assert torch.equal(ours, rearrange(tokens, "b (h w) c -> b c h w", h=2))


def test_references_are_tokens_with_times_of_their_own(transformer: Any) -> None:
    latents, first, second = some_latents(1, 2, 3), some_latents(1, 1, 2), some_latents(1, 3, 1)
    prompt, sigma = some_prompt(1), torch.tensor([0.6])
    ids = Flux2KleinPipeline._prepare_image_ids([first, second])[0]
    ours = [
        flux2.image_ids(height=1, width=2, time=10, device="cpu"),
        flux2.image_ids(height=3, width=1, time=20, device="cpu"),
    ]
    assert torch.equal(torch.cat(ours), ids)
    with torch.inference_mode():
        without = predict(transformer, latents, sigma, prompt, 1.0)
        both = predict(transformer, latents, sigma, prompt, 1.0, references=[first, second])
        swapped = predict(transformer, latents, sigma, prompt, 1.0, references=[second, first])
    assert both.shape == without.shape
    assert not torch.allclose(both, without, atol=1e-4)
    assert not torch.allclose(both, swapped, atol=1e-6)


def naive_times(transformer: Any, latents: Any, prompt: Any, times: torch.Tensor) -> torch.Tensor:
    """The transformer's forward pass with a time for each image token, (B, N), and text's last."""
    hidden = transformer.x_embedder(Flux2KleinPipeline._pack_latents(latents))
    text = transformer.context_embedder(prompt["embeds"])
    count = hidden.shape[1]
    embed = transformer.time_guidance_embed
    of_tokens = torch.stack([embed(1000 * times[:, k], None) for k in range(count + 1)], dim=1)
    of_image, of_text = of_tokens[:, :count], of_tokens[:, count]
    ids = torch.cat([
        Flux2KleinPipeline._prepare_text_ids(text)[0],
        Flux2KleinPipeline._prepare_latent_ids(latents)[0],
    ])  # fmt: skip
    rotary = transformer.pos_embed(ids)
    for block in transformer.transformer_blocks:
        text, hidden = block(
            hidden,
            text,
            transformer.double_stream_modulation_img(of_image),
            transformer.double_stream_modulation_txt(of_text),
            rotary,
        )
    both = torch.cat([text, hidden], dim=1)
    of_both = torch.cat([of_text[:, None].expand(-1, text.shape[1], -1), of_image], dim=1)
    for block in transformer.single_transformer_blocks:
        both = block(both, None, transformer.single_stream_modulation(of_both), rotary)
    last = transformer.norm_out
    scale, shift = last.linear(last.silu(of_image)).chunk(2, dim=-1)
    hidden = last.norm(both[:, text.shape[1] :]) * (1 + scale) + shift
    velocity: torch.Tensor = rearrange(
        transformer.proj_out(hidden), "b (h w) c -> b c h w", h=latents.shape[2]
    )
    return velocity


def test_clean_tokens_have_time_0_and_the_others_their_own(transformer: Any) -> None:
    latents, prompt, sigma = some_latents(2, 2, 3), some_prompt(2), torch.tensor([0.3, 0.9])
    clean = torch.zeros(2, 1, 2, 3, dtype=torch.bool)
    clean[0, 0, 0, 1] = clean[1, 0, 1, :2] = True
    times = torch.cat([sigma[:, None].expand(2, 6) * ~clean.flatten(1), sigma[:, None]], dim=1)
    with torch.inference_mode():
        ours = predict(transformer, latents, sigma, prompt, 1.0, clean=clean)
        plain = predict(transformer, latents, sigma, prompt, 1.0)
        assert torch.allclose(ours, naive_times(transformer, latents, prompt, times), atol=1e-5)
        assert not torch.allclose(ours, plain, atol=1e-4)
        again = predict(transformer, latents, sigma, prompt, 1.0)
    assert torch.equal(again, plain)  # the hooks are gone


@pytest.mark.parametrize("references", [0, 1])
def test_one_time_for_all_is_the_plain_model(transformer: Any, references: int) -> None:
    latents, prompt, sigma = some_latents(2, 2, 3), some_prompt(2), torch.tensor([0.3, 0.9])
    more = [some_latents(2, 2, 1)] * references
    with torch.inference_mode():
        plain = predict(transformer, latents, sigma, prompt, 1.0, references=more)
        none = torch.zeros(1, 1, 2, 3, dtype=torch.bool)
        uniform = predict(transformer, latents, sigma, prompt, 1.0, none, more)
        zero = torch.zeros(2)
        at_zero = predict(transformer, latents, zero, prompt, 1.0, references=more)
        every = predict(transformer, latents, zero, prompt, 1.0, ~none, more)
    assert torch.allclose(uniform, plain, atol=1e-6)
    assert torch.allclose(every, at_zero, atol=1e-6)


def test_inputs_are_what_predict_gives_the_transformer(transformer: Any) -> None:
    seen: list[dict[str, Any]] = []
    hook = transformer.register_forward_pre_hook(
        lambda *args: seen.append(args[2]), with_kwargs=True
    )
    with torch.inference_mode():
        predict(transformer, some_latents(2, 2, 3), torch.full((2,), 0.5), some_prompt(2), 1.0)
    hook.remove()
    inputs = flux2.inputs(
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


def test_lora_targets_are_every_linear_of_every_block(transformer: Any) -> None:
    """12 in a double block and 2 in a single one."""
    names = {name for name, layer in transformer.named_modules() if hasattr(layer, "in_features")}
    modules = [name for name, _ in transformer.named_modules()]
    trained = {name for name in modules if re.fullmatch(flux2.LORA_TARGETS, name)}
    assert trained == {name for name in names if "transformer_blocks." in name}
    assert len(trained) == 12 + 2 * 2
    assert not [name for name in trained if "modulation" in name or "norm" in name]


def test_blocks_are_in_the_order_in_which_they_run(transformer: Any) -> None:
    ran: list[Any] = []
    blocks = flux2.blocks(transformer)
    hooks = [block.register_forward_hook(lambda block, *_: ran.append(block)) for block in blocks]
    with torch.inference_mode():
        predict(transformer, some_latents(1, 1, 1), torch.ones(1), some_prompt(1), 1.0)
    for hook in hooks:
        hook.remove()
    assert ran == blocks
    assert len(blocks) == sum(transformer.config[key] for key in flux2.BLOCK_COUNTS) == 3


def test_the_full_size_by_its_parameters() -> None:
    """390 D^2 in the blocks, 17 D^2 in modulations, and the small rest; D = 3072."""
    from diffusers import Flux2Transformer2DModel

    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(**flux2.TRANSFORMER_CONFIG)
    heads = 128 * (4 * 5 + 2 * 20)  # the norms of queries and keys
    rest = 3072 * (128 + 7680 + 256 + 3072 + 128)  # embedders of image, text and time; proj_out
    count = (5 * 26 + 20 * 13 + 6 + 6 + 3 + 2) * 3072**2 + rest + heads
    assert sum(weight.numel() for weight in transformer.parameters()) == count


def test_the_arithmetic_of_a_pass_is_counted(transformer: Any) -> None:
    """Two for each weight of a block's linears and each token: all but attention's products."""
    linears = [layer for name, layer in transformer.named_modules() if "blocks." in name]
    weights = sum(x.weight.numel() for x in linears if isinstance(x, torch.nn.Linear))
    # In a double block a token meets the image's weights or the text's, which are as many.
    double = sum(w.numel() for w in transformer.transformer_blocks.parameters() if w.ndim == 2)
    flops = Flops.of(transformer.config, image_tokens=24, text_tokens=8)
    assert flops.linear == 2 * 32 * (weights - double / 2)
    full = Flops.of(flux2.TRANSFORMER_CONFIG, image_tokens=6144, text_tokens=512)
    assert (full.linear / 1e12, full.attention / 1e12) == pytest.approx((40.83, 13.61), abs=0.01)
