"""Kernels, recomputed blocks, caches and guidance around a transformer."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import Sampling, sample
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.lora.adapters import add_lora
from gridctl.models import flux1
from gridctl.models.transformer import (
    Denoiser,
    attention_kernel,
    cache_first_block,
    recompute_blocks,
    unwrap,
)
from gridctl.profile import load_profile

# Attention.


@pytest.mark.parametrize("kind", ["auto", "flash", "math"])
def test_every_kernel_computes_the_same(kind: str) -> None:
    q, k, v = (torch.randn(1, 2, 8, 16) for _ in range(3))
    expected = torch.softmax(q @ k.transpose(-1, -2) / 4, dim=-1) @ v
    with attention_kernel(kind, training=True):
        result = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(("training", "allowed"), [(True, False), (False, True)])
def test_auto_has_cudnn_for_sampling_only(training: bool, allowed: bool) -> None:
    with attention_kernel("auto", training=training):
        assert torch.backends.cuda.cudnn_sdp_enabled() == allowed
        assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize("kind", ["flash", "cudnn", "efficient", "math"])
def test_a_named_kernel_is_the_only_one(kind: str) -> None:
    enabled = {
        "flash": torch.backends.cuda.flash_sdp_enabled,
        "cudnn": torch.backends.cuda.cudnn_sdp_enabled,
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled,
        "math": torch.backends.cuda.math_sdp_enabled,
    }
    with attention_kernel(kind, training=True):
        assert [name for name, is_on in enabled.items() if is_on()] == [kind]


def test_a_kernel_that_is_not_there_is_one_line() -> None:
    q = torch.randn(1, 2, 8, 16)
    with (
        pytest.raises(UsageError, match='"cudnn" does not work') as error,
        attention_kernel("cudnn", training=False),
    ):
        F.scaled_dot_product_attention(q, q, q)
    assert "\n" not in str(error.value)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="mine"), attention_kernel("auto", training=True):
        raise RuntimeError("mine")


# Recomputed blocks: they change memory, never gradients.


def gradients(base: Any, share: float, *, offload: bool = False) -> tuple[Tensor, int]:
    """The LoRA's gradients, and the bytes that the forward pass kept for the backward pass."""
    transformer = base.load_transformer()
    parameters = add_lora(transformer, flux1.LORA_TARGETS, rank=4, alpha=4, seed=0)
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(number))
    recompute_blocks(transformer, flux1, share, offload=offload)
    generator = torch.Generator().manual_seed(0)
    prompt = {
        "embeds": torch.randn(1, 12, 128, generator=generator),
        "pooled": torch.randn(1, 64, generator=generator),
    }
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    latents = torch.randn(1, 64, 8, 8, generator=generator)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        predicted = flux1.predict(transformer, latents, torch.tensor([0.5]), prompt, 1.0)
    predicted.square().mean().backward()
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    return flat, sum(kept.values())


@pytest.mark.parametrize(("share", "offload"), [(0.5, False), (1.0, False), (1.0, True)])
def test_recomputed_gradients_are_the_same(base: Any, share: float, offload: bool) -> None:
    expected, everything = gradients(base, 0.0)
    found, kept = gradients(base, share, offload=offload)
    torch.testing.assert_close(found, expected)
    assert kept < everything


def test_a_larger_share_keeps_less(base: Any) -> None:
    kept = [gradients(base, share)[1] for share in (0.0, 0.25, 0.5, 1.0)]
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize(("share", "first"), [(0.25, 2), (0.5, 4), (1.0, 8)])
def test_the_first_blocks_are_recomputed(
    base: Any, monkeypatch: pytest.MonkeyPatch, share: float, first: int
) -> None:
    """Of 2 double and 6 single blocks."""
    recomputed: list[Any] = []

    def checkpoint(block: Any, *inputs: Any, **_: Any) -> Any:
        recomputed.append(block)
        return block(*inputs)

    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", checkpoint)
    transformer = base.load_transformer()
    recompute_blocks(transformer, flux1, share)
    prompt = {"embeds": torch.zeros(1, 4, 128), "pooled": torch.zeros(1, 64)}
    flux1.predict(transformer, torch.zeros(1, 64, 1, 1), torch.ones(1), prompt, 1.0)
    assert recomputed == flux1.blocks(transformer)[:first]


def test_a_wrapped_model_is_unwrapped() -> None:
    model = torch.nn.Linear(1, 1)
    assert unwrap(model) is unwrap(SimpleNamespace(module=model)) is model


# Guidance.


class FakeFamily:
    """Predicts the prompt's number plus the guidance; keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[float], bool, Any]] = []

    def predict(
        self,
        transformer: Any,
        latents: Any,
        sigma: Any,
        prompt: Any,
        guidance: Any,
        clean: Any,
        references: Any,
    ) -> Tensor:
        is_math = torch.backends.cuda.math_sdp_enabled() and not (
            torch.backends.cuda.flash_sdp_enabled()
        )
        self.calls.append((sigma.tolist(), is_math, clean))
        return torch.full_like(latents, float(prompt["number"]) + guidance)


def fake_denoiser(**values: Any) -> Denoiser:
    fields = {
        "family": FakeFamily(),
        "transformer": SimpleNamespace(),
        "prompt": {"number": torch.tensor(2.0)},
        "empty": {"number": torch.tensor(10.0)},
    }
    return Denoiser(**{**fields, **values})


def test_a_denoiser_predicts_with_its_prompt_and_guidance() -> None:
    denoise = fake_denoiser(guidance=0.5, attention="math")
    clean = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    assert denoise(torch.zeros(3, 1, 1, 1), 0.7, clean).flatten().tolist() == [2.5] * 3
    ((sigmas, is_math, given),) = denoise.family.calls
    assert sigmas == pytest.approx([0.7] * 3)
    assert is_math
    assert given is clean


@pytest.mark.parametrize(
    ("sigma", "scale", "expected"),
    [
        (0.5, 3.0, 10 + 3 * (2 - 10)),  # away from the empty prompt's velocity
        (0.6, 3.0, 10 + 3 * (2 - 10)),  # the limit is guided, too
        (0.61, 3.0, 2),
        (0.5, 1.0, 2),
        (0.5, 0.5, 6),
    ],
)
def test_classifier_free_guidance_by_hand(sigma: float, scale: float, expected: float) -> None:
    denoise = fake_denoiser(guidance=0.0, true_cfg_scale=scale, true_cfg_max_sigma=0.6)
    assert float(denoise(torch.zeros(1, 1, 1, 1), sigma)) == pytest.approx(expected)
    assert len(denoise.family.calls) == (1 if expected == 2 else 2)


def test_a_profile_decides_guidance_and_kernel(base: Any) -> None:
    profile = load_profile(
        "tiny",
        {
            "generate.guidance": 2.5,
            "generate.true_cfg_scale": 3.0,
            "generate.true_cfg_max_sigma": 0.4,
            "model.attention": "math",
        },
    ).profile
    prompt, empty = {"number": torch.ones(1)}, {"number": torch.zeros(1)}
    made = Denoiser.of(base, "transformer", profile, prompt, empty)
    assert (made.family, made.transformer) == (flux1, "transformer")
    assert (float(made.prompt["number"]), float(made.empty["number"])) == (1.0, 0.0)
    scales = (made.guidance, made.true_cfg_scale, made.true_cfg_max_sigma)
    assert (*scales, made.attention) == (2.5, 3.0, 0.4, "math")


@pytest.fixture
def make_denoiser(base: Any, transformer: Any) -> Callable[..., Denoiser]:
    with base.text_encoders() as encode, torch.inference_mode():
        prompt, empty = encode(["a red circle"]), encode([""])
    first = Denoiser(family=flux1, transformer=transformer, prompt=prompt, empty=empty)
    return lambda **values: replace(first, **values)


def test_blocks_are_skipped_while_the_first_hardly_changes(
    base: Any, make_denoiser: Callable[..., Denoiser]
) -> None:
    """Not in the next image, and no more when the cache is switched off."""
    grid = Grid(rows=2, cols=3, cell=(32, 48))
    transformer = base.load_transformer()
    computed: list[int] = []
    transformer.single_transformer_blocks[-1].attn.register_forward_hook(
        lambda *_: computed.append(1)
    )
    sampling = Sampling(sigmas=(0.5, 0.499, 0.498, 0.0))

    def draw(**values: float) -> Tensor:
        computed.clear()
        denoise = make_denoiser(transformer=transformer, **values)
        return sample(denoise, Plan.generate(grid), base.noise_source(grid, 3), sampling)

    plain = draw()
    assert len(computed) == 3
    cache_first_block(transformer, on=True)
    fast = draw()
    assert len(computed) == 1
    assert torch.equal(fast, draw())
    assert len(computed) == 1
    assert torch.allclose(fast, plain, atol=0.05)
    assert not torch.equal(fast, plain)
    draw(true_cfg_scale=2.0)  # each prompt has a cache of its own
    assert len(computed) == 2
    cache_first_block(transformer, on=False)
    assert torch.equal(draw(), plain)
