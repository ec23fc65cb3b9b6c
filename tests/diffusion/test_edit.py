from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gridctl.diffusion.sampler import flow_edit

SIGMAS = (1.0, 0.8, 0.5, 0.2, 0.0)


def model(strength: float) -> Callable[[Tensor, float, Tensor | None], Tensor]:
    """A model with a prompt of its own: it mixes all tokens and knows its noise level."""

    def denoise(latents: Tensor, sigma: float, clean: Tensor | None = None) -> Tensor:
        assert clean is None
        return torch.tanh(latents.roll(1, -1) * strength - latents.mean()) - sigma * latents

    return denoise


RED, BLUE = model(1.0), model(-0.7)


def latents() -> Tensor:
    return torch.randn(1, 8, 2, 4, generator=torch.Generator().manual_seed(1))


def fresh(seed: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(1, 8, 2, 4, generator=generator)


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 4), (0.5, 2), (0.0, 0)])
def test_the_edit_is_its_naive_twin(strength: float, steps: int) -> None:
    start, draw = latents(), fresh(5)
    wanted = start.clone()
    for sigma, after in list(pairwise(SIGMAS))[4 - steps :]:
        noisy = (1 - sigma) * start + sigma * draw()
        new, old = BLUE(wanted + noisy - start, sigma, None), RED(noisy, sigma, None)
        wanted = wanted + (after - sigma) * (new - old)
    taken: list[tuple[int, int]] = []
    edited = flow_edit(
        start,
        fresh(5),
        SIGMAS,
        source=RED,
        target=BLUE,
        strength=strength,
        on_step=lambda step, of: taken.append((step, of)),
    )
    assert torch.allclose(edited, wanted, atol=1e-5)
    assert taken == [(step, steps) for step in range(1, steps + 1)]


def test_the_same_prompt_changes_nothing() -> None:
    edited = flow_edit(latents(), fresh(5), SIGMAS, source=RED, target=RED, strength=1.0)
    assert torch.allclose(edited, latents(), atol=1e-5)


def test_an_edit_goes_from_the_source_to_the_target() -> None:
    """Velocities point to noise, so by one step from sigma 1 it moves by source minus target."""

    def pull(value: float) -> Callable[[Tensor, float, Tensor | None], Tensor]:
        return lambda latents, sigma, clean: torch.full_like(latents, value)

    edited = flow_edit(
        latents(), fresh(5), (1.0, 0.0), source=pull(3.0), target=pull(1.0), strength=1.0
    )
    assert torch.allclose(edited, latents() + 2.0, atol=1e-5)


def test_parts_that_are_edited_already_stay() -> None:
    fixed = torch.full_like(latents(), torch.nan)
    fixed[..., :2] = 0.5
    seen: list[Tensor] = []

    def target(noisy: Tensor, sigma: float, clean: Tensor | None) -> Tensor:
        seen.append(noisy)
        return BLUE(noisy, sigma, clean)

    edited = flow_edit(
        latents(), fresh(5), SIGMAS, source=RED, target=target, strength=1.0, fixed=fixed
    )
    assert (edited[..., :2] == 0.5).all()
    free = flow_edit(latents(), fresh(5), SIGMAS, source=RED, target=BLUE, strength=1.0)
    assert edited.isfinite().all()
    assert not torch.allclose(edited[..., 2:], free[..., 2:])  # it sees what is fixed
    draw = fresh(5)
    for noisy, sigma in zip(seen, SIGMAS, strict=False):  # at every step, the first included
        noise = sigma * (draw() - latents())
        assert torch.allclose(noisy[..., :2], 0.5 + noise[..., :2], atol=1e-5)
