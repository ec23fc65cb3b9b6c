from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from einops import rearrange

from gridctl.models.latents import (
    Conditioning,
    decode_frames,
    draw_noise,
    encode_frames,
    image_ids,
    patchify,
    predict_velocity,
    unpatchify,
)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 6), (8, 4), (16, 24)])
def test_patches_and_positions_are_those_of_flux(height: int, width: int) -> None:
    codes = torch.randn(2, 16, height, width)
    theirs = FluxPipeline._pack_latents(codes, 2, 16, height, width)
    latents = patchify(codes)
    assert latents.shape == (2, 64, height // 2, width // 2)
    assert torch.equal(rearrange(latents, "b c h w -> b (h w) c"), theirs)
    back = unpatchify(latents)
    assert torch.equal(back, codes)
    # In pixels, at the VAE's factor of 8.
    assert torch.equal(back, FluxPipeline._unpack_latents(theirs, 8 * height, 8 * width, 8))
    device = torch.device("cpu")
    ids = FluxPipeline._prepare_latent_image_ids(2, height // 2, width // 2, device, torch.float32)
    assert torch.equal(image_ids(height=height // 2, width=width // 2, device=device), ids)


def test_noise_is_drawn_as_flux_draws_it() -> None:
    noise = draw_noise(64, 2, 3, torch.Generator().manual_seed(4))
    drawn = torch.randn(1, 16, 4, 6, generator=torch.Generator().manual_seed(4))
    assert noise.shape == (1, 64, 2, 3)
    assert torch.equal(noise[0, :, 1, 2], drawn[0, :, 2:4, 4:6].flatten())


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)


def test_encoding_is_per_frame_and_without_chance(base: Any, frames: np.ndarray) -> None:
    with base.vae() as vae:
        latents = encode_frames(vae, frames, batch=8)
        again = encode_frames(vae, frames, batch=8)
        by_two = encode_frames(vae, frames, batch=2)
        alone = torch.cat([encode_frames(vae, frames[k : k + 1], batch=1) for k in range(5)])
        pixels = torch.from_numpy(frames[:1]).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            raw = vae.encode(pixels).latent_dist.mode()
        scaled = (raw - vae.config.shift_factor) * vae.config.scaling_factor
    assert latents.shape == (5, 64, 2, 3)
    assert torch.equal(latents, again)
    assert torch.allclose(latents, by_two, atol=1e-4)
    assert torch.allclose(latents, alone, atol=1e-4)
    assert torch.allclose(unpatchify(latents[:1]), scaled, atol=1e-4)


def test_decoding_undoes_scale_and_shape(base: Any, frames: np.ndarray) -> None:
    with base.vae() as vae:
        latents = encode_frames(vae, frames, batch=8)
        decoded = decode_frames(vae, latents, batch=2)
        with torch.no_grad():
            codes = unpatchify(latents) / vae.config.scaling_factor + vae.config.shift_factor
            raw = vae.decode(codes).sample
    assert decoded.shape == frames.shape
    assert decoded.dtype == np.uint8
    naive = ((raw.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(naive - decoded).max() <= 0.51


def test_the_prediction_is_the_transformer_of_diffusers(transformer: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(2, 16, 4, 6, generator=generator)
    noisy = patchify(codes)
    prompt = Conditioning(
        embeds=torch.randn(2, 7, 128, generator=generator),
        pooled=torch.randn(2, 64, generator=generator),
    )
    sigma = torch.tensor([0.3, 0.9])
    with torch.inference_mode():
        ours = predict_velocity(transformer, noisy, sigma=sigma, prompt=prompt, guidance=2.5)
        tokens = transformer(
            hidden_states=FluxPipeline._pack_latents(codes, 2, 16, 4, 6),
            encoder_hidden_states=prompt.embeds,
            pooled_projections=prompt.pooled,
            timestep=sigma,
            img_ids=FluxPipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32),
            txt_ids=torch.zeros(7, 3),
            guidance=torch.tensor([2.5, 2.5]),
        ).sample
        other = predict_velocity(transformer, noisy, sigma=sigma, prompt=prompt, guidance=1.0)
    assert torch.equal(unpatchify(ours), FluxPipeline._unpack_latents(tokens, 32, 48, 8))
    assert not torch.allclose(ours, other)
