from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from gridctl.diffusion.sampler import Denoiser, Sampling, flow_edit
from gridctl.models.latents import predict_velocity

SIGMAS = (1.0, 0.8, 0.5, 0.2, 0.0)


@pytest.fixture(scope="module")
def denoisers(base: Any, transformer: Any) -> tuple[Denoiser, Denoiser]:
    """With the prompts "a red circle" and "a blue circle"."""
    with base.text_encoders() as encode, torch.inference_mode():
        empty, red, blue = (encode([text]) for text in ("", "a red circle", "a blue circle"))
    sampling = Sampling(sigmas=SIGMAS)
    source = Denoiser(transformer=transformer, prompt=red, empty=empty, sampling=sampling)
    return source, replace(source, prompt=blue)


def latents() -> torch.Tensor:
    return torch.randn(1, 64, 2, 4, generator=torch.Generator().manual_seed(1))


def fresh(seed: int) -> Callable[[], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(1, 64, 2, 4, generator=generator)


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 4), (0.5, 2), (0.0, 0)])
def test_the_edit_is_its_naive_twin(
    denoisers: tuple[Denoiser, Denoiser], transformer: Any, strength: float, steps: int
) -> None:
    source, target = denoisers
    start = latents()
    generator, wanted = torch.Generator().manual_seed(5), start.clone()
    for sigma, after in list(pairwise(SIGMAS))[4 - steps :]:
        noise = torch.randn(start.shape, generator=generator)
        noisy = (1 - sigma) * start + sigma * noise
        with torch.inference_mode():
            new, old = (
                predict_velocity(
                    transformer,
                    latent,
                    sigma=torch.tensor([sigma]),
                    prompt=denoiser.prompt,
                    guidance=1.0,
                )
                for latent, denoiser in ((wanted + noisy - start, target), (noisy, source))
            )
        wanted = wanted + (after - sigma) * (new - old)
    taken: list[int] = []
    edited = flow_edit(
        start,
        fresh(5),
        source=source,
        target=target,
        strength=strength,
        on_step=lambda step, _: taken.append(step),
    )
    assert torch.allclose(edited, wanted, atol=1e-5)
    assert len(taken) == steps


def test_the_same_prompt_changes_nothing(denoisers: tuple[Denoiser, Denoiser]) -> None:
    source, _ = denoisers
    edited = flow_edit(
        latents(),
        fresh(5),
        source=source,
        target=source,
        strength=1.0,
    )
    assert torch.allclose(edited, latents(), atol=1e-5)


def test_what_is_edited_already_stays(denoisers: tuple[Denoiser, Denoiser]) -> None:
    source, target = denoisers
    fixed = torch.full_like(latents(), torch.nan)
    fixed[..., :2] = 0.5
    options = {"source": source, "target": target, "strength": 1.0}
    edited = flow_edit(latents(), fresh(5), fixed=fixed, **options)
    assert (edited[..., :2] == 0.5).all()
    free = flow_edit(latents(), fresh(5), **options)
    assert edited.isfinite().all()
    assert not torch.allclose(edited[..., 2:], free[..., 2:])  # it sees what is fixed
