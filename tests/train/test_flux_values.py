"""What is trivial in the built-in model, held against diffusers' pipelines with FLUX.1's values.

The built-in VAE has shift 0 and scale 1, its prompts 40 tokens, its heads 32 channels: an error
in any of these would not show there, and would ruin every training on FLUX.1.
"""

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

from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import default_mu, shift_sigma
from gridctl.geometry import Grid
from gridctl.models.latents import Conditioning, decode_frames, encode_frames, patchify, unpatchify
from gridctl.train.batch import Batch

GRID = Grid(rows=2, cols=3, cell=(32, 16))
SCHEDULER = {
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15,
    "shift": 3.0, "use_dynamic_shifting": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def vae() -> Any:
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


def test_frames_are_encoded_as_by_diffusers(vae: Any) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    pipeline: Any = SimpleNamespace(vae=vae)
    with torch.no_grad():
        theirs = FluxKontextPipeline._encode_vae_image(pipeline, pixels, [None] * 3)
    ours = encode_frames(vae, frames, batch=2)
    assert ours.shape == (3, 64, 1, 2)
    assert torch.allclose(unpatchify(ours), theirs, atol=1e-5)


def test_latents_are_decoded_as_diffusers_decodes_them(vae: Any) -> None:
    """With the pipeline's own end: zero steps away from the latents it is given."""
    pipeline = make_pipeline(vae, make_transformer(guidance_embeds=True))
    torch.manual_seed(2)
    codes = torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        raw = codes / 0.3611 + 0.1159
        image = pipeline.image_processor.postprocess(vae.decode(raw).sample, output_type="np")
    ours = decode_frames(vae, patchify(codes), batch=1)
    assert np.abs(ours[0] / 255 - image[0]).max() <= 0.5 / 255 + 1e-6


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


@pytest.mark.parametrize("guidance_embeds", [True, False])
@pytest.mark.parametrize("start", [1.0, 0.4])
def test_a_batch_is_predicted_as_by_the_pipeline(
    vae: Any, guidance_embeds: bool, start: float
) -> None:
    """One step of FluxPipeline to sigma 0 goes along the velocity that a batch is trained on.

    So patches, positions, 512 padded text tokens, timestep, shift, guidance (1 in training, and
    none for a base without its embedding) and the pooled vector are all the pipeline's.
    """
    transformer = make_transformer(guidance_embeds=guidance_embeds)
    torch.manual_seed(3)
    width, height = GRID.size("token")
    clean, noise = torch.randn(2, 1, 64, height, width)
    prompt = Conditioning(embeds=torch.randn(1, 512, 48), pooled=torch.randn(1, 24))
    mu = default_mu(SCHEDULER, GRID.num_tokens)
    sigma = shift_sigma(torch.tensor([start], dtype=torch.float64), mu).float()
    batch = Batch(grid=GRID, clean=clean, noise=noise, sigma=sigma, prompt=prompt)
    with torch.no_grad():
        ours = batch.predict(transformer, autocast=False)
        noisy = (1 - sigma) * clean + sigma * noise
        image_width, image_height = GRID.image_size
        end = make_pipeline(vae, transformer)(
            prompt_embeds=prompt.embeds,
            pooled_prompt_embeds=prompt.pooled,
            height=image_height,
            width=image_width,
            num_inference_steps=1,
            sigmas=[start],
            guidance_scale=1.0,
            latents=rearrange(noisy, "b c h w -> b (h w) c"),
            output_type="latent",
        ).images
    end = rearrange(end, "b (h w) c -> b c h w", h=height)
    theirs = (noisy - end) / sigma
    assert float(theirs.abs().mean()) > 0.05
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.equal(split_cells(ours, GRID)[0, 1], ours[0, :, :1, 2:4])
