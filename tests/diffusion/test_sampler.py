from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from einops import rearrange
from torch import Tensor

from gridctl.diffusion.cells import join_cells, split_cells
from gridctl.diffusion.flow import default_mu, schedule
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import (
    Denoiser,
    Sampling,
    cache_first_block,
    num_steps,
    sample,
)
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.models.latents import Conditioning, encode_frames, predict_velocity
from gridctl.profile import load_profile
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Scene

pytestmark = pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")

GRID = Grid(rows=2, cols=3, cell=(32, 48), order="serpentine")
PROMPT = "2x3 grid of 6 video frames in serpentine order. A red circle moves right."
STEPS = 4


@pytest.fixture(scope="module")
def prompt(base: Any) -> Conditioning:
    with base.text_encoders() as encode, torch.inference_mode():
        return encode([PROMPT])


@pytest.fixture(scope="module")
def empty(base: Any) -> Conditioning:
    with base.text_encoders() as encode, torch.inference_mode():
        return encode([""])


@pytest.fixture
def denoiser(transformer: Any, prompt: Conditioning, empty: Conditioning) -> Any:
    """Values of a `Sampling` → a denoiser."""

    def make(sigmas: Sequence[float], **values: float) -> Denoiser:
        sampling = Sampling(sigmas=tuple(sigmas), **values)
        return Denoiser(transformer=transformer, prompt=prompt, empty=empty, sampling=sampling)

    return make


def some_noise(seed: int) -> Tensor:
    width, height = GRID.size("token")
    return torch.randn(1, 64, height, width, generator=torch.Generator().manual_seed(seed))


def source(first: Tensor, seed: int = 0) -> Callable[[], Tensor]:
    """Draws `first`, then what a generator with this seed draws."""
    generator, given = torch.Generator().manual_seed(seed), [first]
    return lambda: given.pop() if given else torch.randn(first.shape, generator=generator)


def sigmas_of(base: Any, steps: int = STEPS) -> list[float]:
    return schedule(steps, default_mu(base.scheduler_config, GRID.num_tokens))


@pytest.mark.parametrize("true_cfg_scale", [1.0, 2.5])
def test_a_plain_plan_draws_what_the_pipeline_of_diffusers_draws(
    base: Any, denoiser: Any, true_cfg_scale: float
) -> None:
    """Everything together: tokenizers, encoders, positions, schedule, guidance, steps."""
    plan = Plan.generate(GRID)
    noise = some_noise(7)
    denoise = denoiser(sigmas_of(base), guidance=3.5, true_cfg_scale=true_cfg_scale)
    ours = sample(denoise, plan, source(noise))
    pipeline = FluxPipeline.from_pretrained(base.folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    width, height = GRID.image_size
    theirs = pipeline(
        PROMPT,
        width=width,
        height=height,
        num_inference_steps=STEPS,
        sigmas=np.linspace(1.0, 1 / STEPS, STEPS),
        guidance_scale=3.5,
        negative_prompt="",
        true_cfg_scale=true_cfg_scale,
        latents=rearrange(noise, "b c h w -> b (h w) c"),
        max_sequence_length=40,  # what the built-in base was trained with
        output_type="latent",
    ).images
    theirs = rearrange(theirs, "b (h w) c -> b c h w", w=width // 16)
    assert float((ours - noise).abs().mean()) > 0.01  # something has happened
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def test_kept_frames_end_as_their_reference_and_others_do_not(base: Any, denoiser: Any) -> None:
    plan = Plan(grid=GRID, release=(0, 1, 0.5, 0.95, 0, 1))
    scene = Scene(
        kind="shape", shape="square", color="blue", background="white", motion="standing still",
        size=0.3,
    )  # fmt: skip
    clip = render_clip(scene, GRID.num_frames, GRID.cell)
    with base.vae() as vae:
        reference = join_cells(encode_frames(vae, clip, batch=8), GRID)[None]
    noise = some_noise(1)
    drawn = sample(denoiser(sigmas_of(base)), plan, source(noise), reference=reference)
    got, wanted = split_cells(drawn, GRID)[0], split_cells(reference, GRID)[0]
    same = [torch.equal(got[k], wanted[k]) for k in range(GRID.num_frames)]
    assert same == [True, False, False, False, True, False]
    # An init frame of less strength stays nearer to where it came from.
    distance = [(got[k] - wanted[k]).abs().mean() for k in range(GRID.num_frames)]
    assert distance[2] < min(distance[1], distance[3])


def test_the_sampler_is_its_naive_twin(
    base: Any, transformer: Any, prompt: Conditioning, denoiser: Any
) -> None:
    """Frame by frame: follow the reference while sigma is above the release, then go free.

    A frame goes free in the step that starts at its release.
    """
    release = (0.0, 1.0, sigmas_of(base)[2], 0.9, 0.3, 1.0)
    plan = Plan(grid=GRID, release=release)
    reference = torch.randn(1, 64, *reversed(GRID.size("token")))
    noise = some_noise(2)
    sigmas = sigmas_of(base)
    known, fresh = split_cells(reference, GRID), split_cells(noise, GRID)
    current = fresh.clone()
    with torch.inference_mode():
        for sigma, after in pairwise(sigmas):
            for k in range(GRID.num_frames):
                if sigma > release[k]:
                    current[:, k] = (1 - sigma) * known[:, k] + sigma * fresh[:, k]
            predicted = predict_velocity(
                transformer,
                join_cells(current, GRID),
                sigma=torch.tensor([sigma]),
                guidance=2.0,
                prompt=prompt,
            )
            current = current - (sigma - after) * split_cells(predicted, GRID)
        for k in range(GRID.num_frames):
            if release[k] < sigma:  # the last one: it was never released
                current[:, k] = known[:, k]
    ours = sample(denoiser(sigmas, guidance=2.0), plan, source(noise), reference=reference)
    assert torch.allclose(ours, join_cells(current, GRID), atol=1e-5)


@pytest.mark.parametrize("release", [(1.0,) * 6, (0.0, 1.0, 0.6, 0.9, 0.3, 1.0)])
@pytest.mark.parametrize("min_sigma", [0.0, 0.6, 1.0])
def test_stochastic_steps_are_those_of_diffusers_scheduler(
    base: Any,
    transformer: Any,
    prompt: Conditioning,
    denoiser: Any,
    release: tuple[float, ...],
    min_sigma: float,
) -> None:
    """Step by step, with the noise that the generator draws after the first."""
    plan = Plan(grid=GRID, release=release)
    reference = torch.randn(1, 64, *reversed(GRID.size("token")))
    first = some_noise(2)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        base.scheduler_config, use_dynamic_shifting=False, shift=1.0, stochastic_sampling=True
    )
    sigmas = sigmas_of(base)
    scheduler.set_timesteps(sigmas=sigmas[:-1])
    assert scheduler.sigmas.tolist() == pytest.approx(sigmas)

    theirs, noise, generator = first, first, torch.Generator().manual_seed(9)
    with torch.inference_mode():
        for sigma, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
            cells = split_cells(theirs, GRID).clone()
            known = split_cells((1 - sigma) * reference + sigma * noise, GRID)
            for k in range(GRID.num_frames):
                if sigma > release[k]:
                    cells[:, k] = known[:, k]
            theirs = join_cells(cells, GRID)
            predicted = predict_velocity(
                transformer, theirs, sigma=torch.tensor([sigma]), guidance=1.0, prompt=prompt
            )
            stochastic = sigma > min_sigma
            scheduler.register_to_config(stochastic_sampling=stochastic)
            if stochastic:
                noise = torch.randn(first.shape, generator=generator.clone_state())
            theirs = scheduler.step(predicted, timestep, theirs, generator=generator).prev_sample
    cells, known = split_cells(theirs, GRID).clone(), split_cells(reference, GRID)
    for k in range(GRID.num_frames):
        if release[k] < sigmas[-2]:  # the last step's: it was never released
            cells[:, k] = known[:, k]
    ours = sample(
        denoiser(sigmas, stochastic_min_sigma=min_sigma),
        plan,
        source(first, 9),
        reference=reference,
    )
    assert torch.allclose(ours, join_cells(cells, GRID), atol=1e-4)


@pytest.mark.parametrize("release", [(1.0,) * 6, (0.0, 1.0, 0.5, 0.9, 0.3, 1.0)])
def test_steps_up_to_a_sigma_go_on_with_the_mean_of_what_they_predicted(
    transformer: Any, prompt: Conditioning, denoiser: Any, release: tuple[float, ...]
) -> None:
    """A frame that follows its reference is not averaged."""
    plan = Plan(grid=GRID, release=release)
    reference = torch.randn(1, 64, *reversed(GRID.size("token")))
    first = some_noise(3)
    sigmas = [1.0, 0.7, 0.4, 0.2, 0.0]
    latents, noise, generator = first, first, torch.Generator().manual_seed(9)
    images: list[list[torch.Tensor]] = [[] for _ in release]
    with torch.inference_mode():
        for sigma, after in pairwise(sigmas):
            cells = split_cells(latents, GRID).clone()
            known = split_cells((1 - sigma) * reference + sigma * noise, GRID)
            held = [sigma > one for one in release]
            for k in range(GRID.num_frames):
                cells[:, k] = known[:, k] if held[k] else cells[:, k]
            latents = join_cells(cells, GRID)
            predicted = predict_velocity(
                transformer, latents, sigma=torch.tensor([sigma]), guidance=1.0, prompt=prompt
            )
            cells = split_cells(latents - sigma * predicted, GRID).clone()
            for k in range(GRID.num_frames):
                drawn = [] if held[k] or sigma > 0.7 else images[k]
                images[k] = [*drawn, cells[:, k].clone()]
                shares = {1: [1], 2: [0.5, 0.5], 3: [0.25, 0.25, 0.5]}[len(images[k])]
                cells[:, k] = sum(s * one for s, one in zip(shares, images[k], strict=True))
                if sigma > 0.7:
                    images[k] = []
            noise = torch.randn(first.shape, generator=generator)
            latents = (1 - after) * join_cells(cells, GRID) + after * noise
    cells = split_cells(latents, GRID).clone()
    for k in range(GRID.num_frames):
        if release[k] == 0:
            cells[:, k] = split_cells(reference, GRID)[:, k]
    averaging = denoiser(sigmas, average_max_sigma=0.7, stochastic_min_sigma=0.0)
    ours = sample(averaging, plan, source(first, 9), reference=reference)
    assert torch.allclose(ours, join_cells(cells, GRID), atol=1e-4)
    without_fresh_noise, plain = (
        sample(denoise, plan, source(first), reference=reference)
        for denoise in (denoiser(sigmas, average_max_sigma=0.7), denoiser(sigmas))
    )
    assert torch.equal(without_fresh_noise, plain)


def test_clean_frames_reach_the_transformer_without_noise(
    base: Any, transformer: Any, prompt: Conditioning, denoiser: Any
) -> None:
    """One that is released goes on from its reference with the noise of that step."""
    plan = Plan(grid=GRID, release=(0.0, 1.0, 0.6, 1.0, 0.0, 1.0))
    reference = torch.randn(1, 64, *reversed(GRID.size("token")))
    noise = some_noise(2)
    known, fresh = split_cells(reference, GRID), split_cells(noise, GRID)
    current, sigmas = fresh.clone(), sigmas_of(base)
    first_free = max(sigma for sigma in sigmas if sigma <= 0.6)
    with torch.inference_mode():
        for sigma, after in pairwise(sigmas):
            current[:, [0, 4]] = known[:, [0, 4]]
            if sigma > 0.6:
                current[:, 2] = known[:, 2]
            elif sigma == first_free:
                current[:, 2] = (1 - sigma) * known[:, 2] + sigma * fresh[:, 2]
            predicted = predict_velocity(
                transformer,
                join_cells(current, GRID),
                sigma=torch.tensor([sigma]),
                guidance=1.0,
                prompt=prompt,
            )
            current = current - (sigma - after) * split_cells(predicted, GRID)
        current[:, [0, 4]] = known[:, [0, 4]]
    ours = sample(denoiser(sigmas, keep_clean=True), plan, source(noise), reference=reference)
    assert torch.allclose(ours, join_cells(current, GRID), atol=1e-5)


def test_a_plan_that_starts_from_frames_begins_at_its_strength(denoiser: Any) -> None:
    """The steps above it would only re-noise the reference."""
    reference = torch.randn(1, 64, *reversed(GRID.size("token")))
    plan = Plan.init(GRID, 0.5)
    noise = some_noise(2)
    steps: list[int] = []
    ours = sample(
        denoiser([1.0, 0.8, 0.4, 0.0]),
        plan,
        source(noise),
        reference=reference,
        on_step=lambda step, _: steps.append(step),
    )
    assert steps == [1, 2]
    start = 0.5 * reference + 0.5 * noise
    by_hand = sample(denoiser([0.5, 0.4, 0.0]), Plan.generate(GRID), source(start))
    assert torch.allclose(ours, by_hand)


def test_a_repeated_step_goes_back_up_by_fresh_noise(denoiser: Any) -> None:
    plan = Plan.generate(GRID)
    noise = some_noise(2)
    ours = sample(
        denoiser([0.8, 0.4], resample=2),
        plan,
        source(noise, 9),
    )
    once = sample(denoiser([0.8, 0.4]), plan, source(noise))
    fresh = torch.randn(noise.shape, generator=torch.Generator().manual_seed(9))
    share = 0.2 / 0.6  # of the image at sigma 0.8 and at 0.4
    again = share * once + (0.8**2 - (share * 0.4) ** 2) ** 0.5 * fresh
    assert torch.allclose(ours, sample(denoiser([0.8, 0.4]), plan, source(again)), atol=1e-5)


def test_steps_above_a_sigma_are_not_guided(denoiser: Any) -> None:
    plan = Plan.generate(GRID)
    noise = some_noise(3)
    sigmas, guided = [1.0, 0.7, 0.3, 0.0], {"true_cfg_scale": 2.5}
    ours = sample(denoiser(sigmas, true_cfg_max_sigma=0.7, **guided), plan, source(noise))
    first = sample(denoiser(sigmas[:2]), plan, source(noise))
    rest = sample(denoiser(sigmas[1:], **guided), plan, source(first))
    assert torch.allclose(ours, rest)
    everywhere = sample(denoiser(sigmas, **guided), plan, source(noise))
    assert not torch.allclose(ours, everywhere, atol=0.01)


def test_the_profile_can_cap_the_shift_of_the_schedule() -> None:
    config = {"use_dynamic_shifting": True, "base_image_seq_len": 256, "max_image_seq_len": 4096}
    config |= {"base_shift": 0.5, "max_shift": 1.15}  # FLUX.1-dev's
    for max_mu, mu in ((None, 3.23), (1.15, 1.15)):
        settings = load_profile("tiny", {"generate.steps": 3, "generate.max_mu": max_mu}).profile
        sampling = Sampling.from_profile(settings.generate, config, 128 * 128)
        assert sampling.sigmas == pytest.approx(schedule(3, mu), abs=1e-3)


@pytest.mark.parametrize(("fresh_from", "steps"), [(0.0, 12), (1.0, 20)])
def test_fast_takes_fewer_steps_where_they_add_fresh_noise(fresh_from: float, steps: int) -> None:
    keys = {"generate.stochastic_min_sigma": fresh_from, "generate.fast": True}
    settings = load_profile("tiny", keys).profile.generate
    assert num_steps(settings) == steps
    assert len(Sampling.from_profile(settings, {}, 384).sigmas) == steps + 1


def test_blocks_after_the_first_are_skipped_while_it_hardly_changes(
    base: Any, prompt: Conditioning, empty: Conditioning
) -> None:
    """Not in the next image, and no more when the cache is switched off."""
    plan = Plan.generate(GRID)
    noise = some_noise(3)
    transformer = base.load_transformer()
    computed: list[int] = []
    transformer.single_transformer_blocks[-1].attn.register_forward_hook(
        lambda *_: computed.append(1)
    )
    sampling = Sampling(sigmas=(0.5, 0.499, 0.498, 0.0))

    def draw() -> torch.Tensor:
        computed.clear()
        denoise = Denoiser(transformer=transformer, prompt=prompt, empty=empty, sampling=sampling)
        return sample(denoise, plan, source(noise))

    plain = draw()
    assert len(computed) == 3
    cache_first_block(transformer, on=True)
    fast = draw()
    assert len(computed) == 1
    assert torch.equal(fast, draw())
    assert len(computed) == 1
    assert torch.allclose(fast, plain, atol=0.05)
    assert not torch.equal(fast, plain)
    cache_first_block(transformer, on=False)
    assert torch.equal(draw(), plain)


def test_a_plan_with_known_frames_needs_their_reference(denoiser: Any) -> None:
    plan = Plan(grid=GRID, release=(0, 1, 1, 1, 1, 1))
    noise = some_noise(0)
    with pytest.raises(UsageError, match="reference"):
        sample(denoiser([1.0, 0.0]), plan, source(noise))


def test_steps_are_reported(denoiser: Any) -> None:
    plan = Plan.generate(GRID)
    noise = some_noise(5)
    reported: list[tuple[int, int]] = []
    sample(
        denoiser([1.0, 0.5, 0.0]),
        plan,
        source(noise),
        on_step=lambda step, steps: reported.append((step, steps)),
    )
    assert reported == [(1, 2), (2, 2)]
