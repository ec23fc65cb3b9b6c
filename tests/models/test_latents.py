from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from hypothesis import given
from hypothesis import strategies as st

from gridctl.geometry import Grid
from gridctl.models.latents import (
    Conditioning,
    decode_frames,
    encode_frames,
    image_ids,
    join_cells,
    patchify,
    predict_velocity,
    split_cells,
    unpatchify,
)

grids = st.builds(
    Grid,
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    cell=st.tuples(st.sampled_from([16, 32, 48]), st.sampled_from([16, 32, 48])),
    order=st.sampled_from(["row-major", "serpentine"]),
)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 6), (8, 4), (16, 24)])
def test_patches_and_positions_are_those_of_flux(height: int, width: int) -> None:
    latents = torch.randn(2, 16, height, width)
    theirs = FluxPipeline._pack_latents(latents, 2, 16, height, width)
    tokens = patchify(latents)
    assert torch.equal(tokens, theirs)
    back = unpatchify(tokens, height=height, width=width)
    assert torch.equal(back, latents)
    # In pixels, at the VAE's factor of 8.
    assert torch.equal(back, FluxPipeline._unpack_latents(theirs, 8 * height, 8 * width, 8))
    device = torch.device("cpu")
    ids = FluxPipeline._prepare_latent_image_ids(2, height // 2, width // 2, device, torch.float32)
    assert torch.equal(image_ids(height=height, width=width, device=device), ids)


@given(grid=grids)
def test_split_then_join_is_the_identity(grid: Grid) -> None:
    width, height = grid.size("latent")
    latents = torch.arange(2 * 3 * height * width).reshape(2, 3, height, width)
    frames = split_cells(latents, grid)
    cell_width, cell_height = grid.cell_size("latent")
    assert frames.shape == (2, grid.num_frames, 3, cell_height, cell_width)
    assert torch.equal(join_cells(frames, grid), latents)


@given(grid=grids)
def test_a_frame_is_the_cell_it_lies_in(grid: Grid) -> None:
    """The naive twin: every latent looked up on its own."""
    width, height = grid.size("latent")
    cell_width, cell_height = grid.cell_size("latent")
    latents = torch.arange(height * width).reshape(1, 1, height, width)
    frames = split_cells(latents, grid)
    for frame in range(grid.num_frames):
        row, col = divmod(frame, grid.cols)
        if grid.order == "serpentine" and row % 2 == 1:
            col = grid.cols - 1 - col
        for y in range(cell_height):
            for x in range(cell_width):
                where = (row * cell_height + y) * width + col * cell_width + x
                assert int(frames[0, frame, 0, y, x]) == where


@given(grid=grids)
def test_the_tokens_of_a_frame_are_where_the_grid_says(grid: Grid) -> None:
    frames = torch.arange(float(grid.num_frames))[None, :, None, None, None]
    cell_width, cell_height = grid.cell_size("latent")
    latents = join_cells(frames.expand(1, -1, 1, cell_height, cell_width), grid)
    width, height = grid.size("token")
    tokens = patchify(latents)[0].reshape(height, width, 4)
    for frame in range(grid.num_frames):
        assert (tokens[grid.box(frame, "token").slices] == frame).all()


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
    assert latents.shape == (5, 16, 4, 6)
    assert torch.equal(latents, again)
    assert torch.allclose(latents, by_two, atol=1e-4)
    assert torch.allclose(latents, alone, atol=1e-4)
    assert torch.allclose(latents[:1], scaled, atol=1e-4)


def test_decoding_undoes_scale_and_shape(base: Any, frames: np.ndarray) -> None:
    with base.vae() as vae:
        latents = encode_frames(vae, frames, batch=8)
        decoded = decode_frames(vae, latents, batch=2)
        with torch.no_grad():
            raw = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
    assert decoded.shape == frames.shape
    assert decoded.dtype == np.uint8
    naive = ((raw.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(naive - decoded).max() <= 0.51


def test_the_prediction_is_the_transformer_of_diffusers(transformer: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 16, 4, 6, generator=generator)
    prompt = Conditioning(
        embeds=torch.randn(2, 7, 128, generator=generator),
        pooled=torch.randn(2, 64, generator=generator),
    )
    sigma = torch.tensor([0.3, 0.9])
    with torch.inference_mode():
        ours = predict_velocity(transformer, noisy, sigma=sigma, prompt=prompt, guidance=2.5)
        tokens = transformer(
            hidden_states=FluxPipeline._pack_latents(noisy, 2, 16, 4, 6),
            encoder_hidden_states=prompt.embeds,
            pooled_projections=prompt.pooled,
            timestep=sigma,
            img_ids=FluxPipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32),
            txt_ids=torch.zeros(7, 3),
            guidance=torch.tensor([2.5, 2.5]),
        ).sample
        other = predict_velocity(transformer, noisy, sigma=sigma, prompt=prompt, guidance=1.0)
    assert torch.equal(ours, FluxPipeline._unpack_latents(tokens, 32, 48, 8))
    assert not torch.allclose(ours, other)
