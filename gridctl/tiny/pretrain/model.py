"""The shape of the built-in base: FLUX.1's classes and folder layout, in miniature.

Sizes are chosen so that everything fits 16 MB in 16 bits, and so that a 4x6 grid of 64x64
pixel cells (384 image tokens) trains at a second or two a step at batch 16 on two CPU cores:
1.7 s in float32; a processor with bfloat16 instructions is several times faster.
"""

from __future__ import annotations

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

TEXT_WIDTH = 128  # T5's, what the transformer reads word by word
POOLED_WIDTH = 64  # CLIP's, one vector for the whole prompt
TEXT_TOKENS = 40  # T5's length: the longest layout prompt and content of the toy world, and some
CLIP_TOKENS = 77  # CLIP's, in every FLUX


def build_transformer() -> FluxTransformer2DModel:
    """2 double and 6 single blocks of width 160, with guidance embedding."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=6,
        attention_head_dim=32,
        num_attention_heads=5,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 14, 14),
    )


def build_vae() -> AutoencoderKL:
    """16 latent channels, factor 8; its first weights come from `codec.prepare_vae`."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 64, 64),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=1,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=True,
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1-dev's own, with its dynamic shift."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def build_clip(*, vocab_size: int, bos: int, eos: int, pad: int) -> CLIPTextModel:
    """One layer. The end token must be the tokenizer's own: CLIP pools where it stands."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=POOLED_WIDTH,
            intermediate_size=4 * POOLED_WIDTH,
            projection_dim=POOLED_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=CLIP_TOKENS,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )


def build_t5(*, vocab_size: int, eos: int, pad: int) -> T5EncoderModel:
    """Two layers."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocab_size,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            eos_token_id=eos,
            pad_token_id=pad,
            decoder_start_token_id=pad,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )
