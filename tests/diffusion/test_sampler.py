from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from gridctl.diffusion.cells import join_cells, split_cells
from gridctl.diffusion.flow import schedule
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import (
    Sampling,
    edit_sigmas,
    num_steps,
    plan_sigmas,
    sample,
)
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.profile import load_profile

GRID = Grid(rows=2, cols=3, cell=(32, 48), order="serpentine")
SIGMAS = schedule(4, 0.6)
EVERY = (1.0,) * 6
MIXED = (0.0, 1.0, 0.6, 0.9, 0.3, 1.0)


def denoise(latents: Tensor, sigma: float, clean: Tensor | None = None) -> Tensor:
    """A model that mixes all tokens of an image and knows its noise level."""
    del clean
    return torch.tanh(latents.roll(1, -1) * (1 + sigma) - latents.mean()) - sigma * latents


def some_latents(seed: int) -> Tensor:
    width, height = GRID.size("token")
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed))


def source(first: Tensor, seed: int = 0) -> Callable[[], Tensor]:
    """Draws `first`, then what a generator with this seed draws."""
    generator, given = torch.Generator().manual_seed(seed), [first]
    return lambda: given.pop() if given else torch.randn(first.shape, generator=generator)


def plan_of(release: Sequence[float]) -> Plan:
    return Plan(grid=GRID, release=tuple(release))


def test_the_sampler_is_its_naive_twin() -> None:
    """Frame by frame: follow the reference while sigma is above the release, then go free.

    A frame goes free in the step that starts at its release.
    """
    release = (0.0, 1.0, SIGMAS[2], 0.9, 0.3, 1.0)
    reference, noise = some_latents(1), some_latents(2)
    known, fresh = split_cells(reference, GRID), split_cells(noise, GRID)
    current = fresh.clone()
    for sigma, after in pairwise(SIGMAS):
        for k in range(GRID.num_frames):
            if sigma > release[k]:
                current[:, k] = (1 - sigma) * known[:, k] + sigma * fresh[:, k]
        predicted = denoise(join_cells(current, GRID), sigma)
        current = current - (sigma - after) * split_cells(predicted, GRID)
    for k in range(GRID.num_frames):
        if release[k] < sigma:  # the last one: it was never released
            current[:, k] = known[:, k]
    sampling = Sampling(sigmas=tuple(SIGMAS))
    ours = sample(denoise, plan_of(release), source(noise), sampling, reference=reference)
    assert torch.allclose(ours, join_cells(current, GRID), atol=1e-5)
    cells = split_cells(ours, GRID)[0]
    same = [torch.equal(cells[k], known[0, k]) for k in range(GRID.num_frames)]
    assert same == [True, False, False, False, True, False]


@pytest.mark.parametrize("release", [EVERY, MIXED])
@pytest.mark.parametrize("min_sigma", [0.0, SIGMAS[1], 1.0])
def test_stochastic_steps_are_those_of_diffusers(
    release: tuple[float, ...], min_sigma: float
) -> None:
    """Step by step, with the noise that the generator draws after the first.

    Steps above the limit are stochastic, one at the limit is not.
    """
    reference, first = some_latents(1), some_latents(2)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=False, shift=1.0, stochastic_sampling=True
    )
    scheduler.set_timesteps(sigmas=SIGMAS[:-1])
    assert scheduler.sigmas.tolist() == pytest.approx(SIGMAS)
    theirs, noise, generator = first, first, torch.Generator().manual_seed(9)
    for sigma, timestep in zip(SIGMAS[:-1], scheduler.timesteps, strict=True):
        cells = split_cells(theirs, GRID).clone()
        known = split_cells((1 - sigma) * reference + sigma * noise, GRID)
        for k in range(GRID.num_frames):
            if sigma > release[k]:
                cells[:, k] = known[:, k]
        theirs = join_cells(cells, GRID)
        stochastic = sigma > min_sigma
        scheduler.register_to_config(stochastic_sampling=stochastic)
        if stochastic:
            noise = torch.randn(first.shape, generator=generator.clone_state())
        predicted = denoise(theirs, sigma)
        theirs = scheduler.step(predicted, timestep, theirs, generator=generator).prev_sample
    cells, known = split_cells(theirs, GRID).clone(), split_cells(reference, GRID)
    for k in range(GRID.num_frames):
        if release[k] < SIGMAS[-2]:  # the last step's: it was never released
            cells[:, k] = known[:, k]
    sampling = Sampling(sigmas=tuple(SIGMAS), stochastic_min_sigma=min_sigma)
    ours = sample(denoise, plan_of(release), source(first, 9), sampling, reference=reference)
    assert torch.allclose(ours, join_cells(cells, GRID), atol=1e-4)


@pytest.mark.parametrize("keep_clean", [False, True])
@pytest.mark.parametrize("release", [EVERY, (0.0, 1.0, 0.5, 0.9, 0.3, 1.0)])
def test_predictions_up_to_a_sigma_are_averaged(
    release: tuple[float, ...], keep_clean: bool
) -> None:
    """Half and half with the last mean. A frame that follows its reference is not averaged."""
    reference, first = some_latents(1), some_latents(3)
    sigmas = (1.0, 0.7, 0.4, 0.2, 0.0)
    known = split_cells(reference, GRID)
    latents, noise, generator = first, first, torch.Generator().manual_seed(9)
    images: list[list[Tensor]] = [[] for _ in release]
    last = 1.0
    for sigma, after in pairwise(sigmas):
        cells = split_cells(latents, GRID).clone()
        noisy = split_cells((1 - sigma) * reference + sigma * noise, GRID)
        held = [sigma > one for one in release]
        for k in range(GRID.num_frames):
            if keep_clean and release[k] < last:
                cells[:, k] = noisy[:, k]
            if held[k]:
                cells[:, k] = known[:, k] if keep_clean else noisy[:, k]
        last = sigma
        latents = join_cells(cells, GRID)
        cells = split_cells(latents - sigma * denoise(latents, sigma), GRID).clone()
        for k in range(GRID.num_frames):
            if held[k] and keep_clean:
                cells[:, k] = known[:, k]
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
        if release[k] < 0.2:
            cells[:, k] = known[:, k]
    sampling = Sampling(
        sigmas=sigmas, average_max_sigma=0.7, stochastic_min_sigma=0.0, keep_clean=keep_clean
    )
    ours = sample(denoise, plan_of(release), source(first, 9), sampling, reference=reference)
    assert torch.allclose(ours, join_cells(cells, GRID), atol=1e-4)


def test_steps_without_fresh_noise_are_not_averaged() -> None:
    averaging, plain = (
        sample(
            denoise,
            plan_of(EVERY),
            source(some_latents(3)),
            Sampling(sigmas=tuple(SIGMAS), average_max_sigma=sigma),
        )
        for sigma in (0.7, 0.0)
    )
    assert torch.equal(averaging, plain)


def test_clean_frames_reach_the_model_without_noise() -> None:
    """One that is released goes on from its reference with the noise of that step."""
    reference, noise = some_latents(1), some_latents(2)
    known, fresh = split_cells(reference, GRID), split_cells(noise, GRID)
    current, first_free = fresh.clone(), max(sigma for sigma in SIGMAS if sigma <= 0.8)
    expected_clean = []
    for sigma, after in pairwise(SIGMAS):
        current[:, [0, 4]] = known[:, [0, 4]]
        if sigma > 0.8:
            current[:, 2] = known[:, 2]
        elif sigma == first_free:
            current[:, 2] = (1 - sigma) * known[:, 2] + sigma * fresh[:, 2]
        expected_clean.append([True, False, sigma > 0.8, False, True, False])
        predicted = denoise(join_cells(current, GRID), sigma)
        current = current - (sigma - after) * split_cells(predicted, GRID)
    current[:, [0, 4]] = known[:, [0, 4]]
    marked: list[Tensor] = []

    def watched(latents: Tensor, sigma: float, clean: Tensor | None) -> Tensor:
        assert clean is not None
        marked.append(clean)
        return denoise(latents, sigma)

    sampling = Sampling(sigmas=tuple(SIGMAS), keep_clean=True)
    plan = plan_of((0.0, 1.0, 0.8, 1.0, 0.0, 1.0))
    ours = sample(watched, plan, source(noise), sampling, reference=reference)
    assert torch.allclose(ours, join_cells(current, GRID), atol=1e-5)
    cells = [split_cells(clean, GRID)[0].flatten(1) for clean in marked]
    assert [frames.all(1).tolist() for frames in cells] == expected_clean
    assert [frames.any(1).tolist() for frames in cells] == expected_clean


def test_renoised_frames_are_not_called_clean() -> None:
    given: list[Tensor | None] = []

    def watched(latents: Tensor, sigma: float, clean: Tensor | None) -> Tensor:
        given.append(clean)
        return denoise(latents, sigma)

    sampling = Sampling(sigmas=(1.0, 0.5, 0.0))
    sample(watched, plan_of(MIXED), source(some_latents(2)), sampling, reference=some_latents(1))
    assert given == [None, None]


def test_a_plan_that_starts_from_frames_begins_at_its_strength() -> None:
    """The steps above it would only re-noise the reference."""
    reference, noise = some_latents(1), some_latents(2)
    steps: list[tuple[int, int]] = []
    ours = sample(
        denoise,
        Plan.init(GRID, 0.5),
        source(noise),
        Sampling(sigmas=(1.0, 0.8, 0.4, 0.0)),
        reference=reference,
        on_step=lambda step, of: steps.append((step, of)),
    )
    assert steps == [(1, 2), (2, 2)]
    start = 0.5 * reference + 0.5 * noise
    by_hand = sample(denoise, plan_of(EVERY), source(start), Sampling(sigmas=(0.5, 0.4, 0.0)))
    assert torch.allclose(ours, by_hand)


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ((0.3, 1.0, 0, 0, 0, 0), [1.0, 0.8, 0.4, 0.0]),
        ((0.3, 0.9, 0, 0, 0, 0), [0.9, 0.8, 0.4, 0.0]),
        ((0.8,) * 6, [0.8, 0.4, 0.0]),
        ((0.1, 0, 0, 0, 0, 0), [0.1, 0.0]),
    ],
)
def test_sigmas_of_a_plan(release: tuple[float, ...], expected: list[float]) -> None:
    assert plan_sigmas(plan_of(release), [1.0, 0.8, 0.4, 0.0]) == expected


@pytest.mark.parametrize("keep_clean", [False, True])
def test_a_repeated_step_goes_back_up_by_fresh_noise(keep_clean: bool) -> None:
    reference, noise = some_latents(1), some_latents(2)
    plan = plan_of((0.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    sampling = Sampling(sigmas=(0.8, 0.4), resample=2, keep_clean=keep_clean)
    steps: list[tuple[int, int]] = []
    ours = sample(
        denoise,
        plan,
        source(noise, 9),
        sampling,
        reference=reference,
        on_step=lambda step, of: steps.append((step, of)),
    )
    known = split_cells(reference, GRID)[:, 0]
    held = known if keep_clean else 0.2 * known + 0.8 * split_cells(noise, GRID)[:, 0]

    def step(latents: Tensor) -> Tensor:
        cells = split_cells(latents, GRID).clone()
        cells[:, 0] = held
        latents = join_cells(cells, GRID)
        return latents - 0.4 * denoise(latents, 0.8)

    fresh = torch.randn(noise.shape, generator=torch.Generator().manual_seed(9))
    share = 0.2 / 0.6  # of the image at sigma 0.8 and at 0.4
    up = share * step(noise) + (0.8**2 - (share * 0.4) ** 2) ** 0.5 * fresh
    cells = split_cells(step(up), GRID).clone()
    cells[:, 0] = known
    assert torch.allclose(ours, join_cells(cells, GRID), atol=1e-5)
    assert steps == [(1, 2), (2, 2)]


def test_a_settings_section_becomes_a_sampling() -> None:
    keys = {
        "generate.steps": 3,
        "generate.stochastic_min_sigma": 0.2,
        "generate.average_max_sigma": 0.7,
        "generate.resample": 2,
    }
    settings = load_profile("tiny", keys).profile.generate
    assert Sampling.of(settings, 1.15) == Sampling(
        sigmas=tuple(schedule(3, 1.15)),
        stochastic_min_sigma=0.2,
        average_max_sigma=0.7,
        resample=2,
    )
    assert Sampling.of(settings, 1.15, keep_clean=True).keep_clean


@pytest.mark.parametrize(
    ("fresh_from", "steps", "expected"), [(0.0, 20, 12), (0.9, 1, 1), (1.0, 20, 20), (0.0, 4, 2)]
)
def test_fast_takes_fewer_steps_where_they_add_fresh_noise(
    fresh_from: float, steps: int, expected: int
) -> None:
    keys = {
        "generate.stochastic_min_sigma": fresh_from,
        "generate.fast": True,
        "generate.steps": steps,
    }
    settings = load_profile("tiny", keys).profile.generate
    assert num_steps(settings) == expected
    assert len(Sampling.of(settings, 0.5).sigmas) == expected + 1
    slow = load_profile("tiny", keys | {"generate.fast": False}).profile.generate
    assert num_steps(slow) == steps


def test_a_plan_with_known_frames_needs_their_reference() -> None:
    with pytest.raises(UsageError, match="reference"):
        sample(
            denoise,
            plan_of((0, 1, 1, 1, 1, 1)),
            source(some_latents(0)),
            Sampling(sigmas=(1.0, 0.0)),
        )


@pytest.mark.parametrize(
    ("strength", "expected"),
    [(1.0, [1.0, 0.8, 0.5, 0.2, 0.0]), (0.5, [0.5, 0.2, 0.0]), (0.0, [0.0])],
)
def test_sigmas_of_an_edit(strength: float, expected: list[float]) -> None:
    assert edit_sigmas(strength, [1.0, 0.8, 0.5, 0.2, 0.0]) == expected


def test_the_schedule_ends_at_zero_for_any_number_of_steps() -> None:
    for steps in (1, 2, 7):
        assert np.all(np.diff(schedule(steps, 0.5)) < 0)
        assert schedule(steps, 0.5)[-1] == 0
