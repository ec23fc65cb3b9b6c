import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from hypothesis import given
from hypothesis import strategies as st

from gridctl.diffusion.flow import (
    add_noise,
    default_mu,
    draw_sigmas,
    euler_step,
    schedule,
    shift_sigma,
    velocity,
)

FLUX_DEV = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
FLUX_SCHNELL = {"use_dynamic_shifting": False, "shift": 1.0}


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, 4, 6)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_noise_is_mixed_as_diffusers_mixes_it() -> None:
    latents, noise = pair()
    assert torch.equal(add_noise(latents, noise, 0.0), latents)
    assert torch.equal(add_noise(latents, noise, 1.0), noise)
    scheduler = FlowMatchEulerDiscreteScheduler()
    step = scheduler.timesteps[300]
    theirs = scheduler.scale_noise(latents, step[None], noise)
    assert torch.allclose(add_noise(latents, noise, float(step) / 1000), theirs, atol=1e-6)


def test_sigma_is_per_sample() -> None:
    latents, noise = pair()
    mixed = add_noise(latents, noise, torch.tensor([0.0, 1.0])[:, None, None, None])
    assert torch.equal(mixed[0], latents[0])
    assert torch.equal(mixed[1], noise[1])


@given(
    sigma=st.floats(0, 1),
    next_sigma=st.floats(0, 1),
)
def test_a_step_along_the_true_velocity_lands_on_the_line(sigma: float, next_sigma: float) -> None:
    latents, noise = pair()
    here, there = add_noise(latents, noise, sigma), add_noise(latents, noise, next_sigma)
    step = euler_step(here, velocity(latents, noise), sigma, next_sigma)
    assert torch.allclose(step, there, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize("mu", [0.5, 1.15, 1.5, 3.23])
def test_the_schedule_is_the_dynamic_one_of_diffusers(steps: int, mu: float) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(**FLUX_DEV)
    theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    assert np.allclose(schedule(steps, mu), theirs.sigmas.numpy(), atol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_schedule_is_the_static_one_of_diffusers(shift: float) -> None:
    config = {"use_dynamic_shifting": False, "shift": shift}
    theirs = FlowMatchEulerDiscreteScheduler(**config)
    theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / 4, 4))
    assert np.allclose(schedule(4, default_mu(config, 1024)), theirs.sigmas.numpy(), atol=1e-6)


def test_the_shift_is_the_formula_and_allows_zero() -> None:
    sigmas = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    formula = math.exp(0.8) / (math.exp(0.8) + 1 / sigmas - 1)
    assert torch.allclose(shift_sigma(sigmas, 0.8), formula)
    assert float(shift_sigma(torch.zeros(()), 0.8)) == 0
    assert torch.allclose(shift_sigma(sigmas, 0.0), sigmas)


@pytest.mark.parametrize(("tokens", "mu"), [(4096, 1.15), (6144, 1.50), (16384, 3.23)])
def test_mu_of_flux_dev(tokens: int, mu: float) -> None:
    ours = default_mu(FLUX_DEV, tokens)
    assert ours == pytest.approx(mu, abs=0.005)
    assert ours == pytest.approx(calculate_shift(tokens))


def test_a_static_shift_has_one_mu() -> None:
    assert default_mu(FLUX_SCHNELL, 16384) == 0.0
    assert default_mu({"shift": 3.0}, 64) == pytest.approx(math.log(3))


def test_sigmas_for_training_are_logit_normal_and_shifted() -> None:
    def draw(mu: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return draw_sigmas(20_000, mu=mu, mean=0.0, std=1.0, generator=generator)

    plain = torch.logit(draw(0.0).double())
    assert float(plain.mean()) == pytest.approx(0, abs=0.03)
    assert float(plain.std()) == pytest.approx(1, abs=0.03)
    # A shift by mu moves the logit by mu, and so the median.
    assert float(torch.logit(draw(1.15).double()).median()) == pytest.approx(1.15, abs=0.03)
    assert torch.equal(draw(1.15), draw(1.15))
