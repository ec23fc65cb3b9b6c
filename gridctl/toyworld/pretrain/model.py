"""The shape of the built-in base: FLUX.1's classes and folder layout, in miniature.

Sizes are chosen so that everything fits 16 MB in 16 bits, and so that a 4x6 grid of 64x64
pixel cells (384 image tokens) trains at a second or two a step at batch 16 on two CPU cores:
1.7 s in float32; a processor with bf16 of its own is several times faster.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

TEXT_WIDTH = 128  # T5's, what the transformer reads word by word
POOLED_WIDTH = 64  # CLIP's, one vector for the whole prompt
TEXT_TOKENS = 64  # T5's length; the layout prompt and the content fit twice
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
    """16 latent channels, factor 8: 1.9 M parameters, initialised by `prepare_vae`."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 64, 96),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=1,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=True,
    )
    prepare_vae(vae)
    return vae


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


# --- the VAE's first weights ------------------------------------------------------------------
#
# Group normalisation takes away the level of a picture, and a plain colour is nothing but
# level: from the usual random weights a VAE this small stays at a squared error of 0.15 (-1..1)
# where the mean colour of each 8x8 block already has 0.025. So it starts as that block mean:
# colours go through every layer untouched, residual branches start at zero, and in each layer
# two constant channels, +/- ANCHOR, hold the norm's scale, so that it hardly bends the rest.

ANCHOR = 4.0  # the scale that the constants give to a layer's standard deviation
_CONSTANTS = 2  # channels 0 and 1 of every layer
_CARRIED = 6  # and the next ones: red, green, blue, and their negatives, for the way past SiLU


def prepare_vae(vae: AutoencoderKL) -> None:
    """Initialise as a codec of block means, and keep the constants constant in training."""
    center, mean, one = torch.zeros(3, 3), torch.zeros(3, 3), torch.ones(1, 1)
    center[1, 1], mean[:2, :2] = 1, 0.25
    with torch.no_grad():
        for part, resample in ((vae.encoder, mean), (vae.decoder, center)):
            for module in part.modules():
                if isinstance(module, nn.GroupNorm):
                    module.weight.fill_(ANCHOR)
                elif isinstance(module, ResnetBlock2D):
                    _start(module.conv1, gain=math.sqrt(2))
                    _silence(module.conv2)
                    if module.conv_shortcut is not None:
                        _start(module.conv_shortcut, carry=one)
                elif isinstance(module, Attention):
                    _silence(module.to_out[0])
                elif isinstance(getattr(module, "conv", None), nn.Conv2d):
                    _start(module.conv, carry=resample)  # a down- or upsampler
            _start(part.conv_in, from_pixels=True)
            _finish(part.conv_out, keep_rest=part is vae.encoder)
            _hold_constants(part)


def _start(
    conv: nn.Conv2d,
    *,
    gain: float = 1.0,
    carry: torch.Tensor | None = None,
    from_pixels: bool = False,
) -> None:
    """Random weights that keep a signal's size; constants made anew; colours carried on."""
    weight, bias = conv.weight, conv.bias
    assert bias is not None
    weight.normal_(0, gain / math.sqrt(weight[0].numel()))
    bias.zero_()
    anchor = ANCHOR * math.sqrt(conv.out_channels / _CONSTANTS)
    weight[:_CONSTANTS] = 0
    bias[:_CONSTANTS] = torch.tensor([anchor, -anchor])
    if from_pixels:
        weight[_CONSTANTS : _CONSTANTS + _CARRIED] = 0
        for color in range(3):
            weight[_CONSTANTS + color, color, 1, 1] = 1
            weight[_CONSTANTS + 3 + color, color, 1, 1] = -1
    else:
        weight[:, :_CONSTANTS] = 0
    if carry is not None:
        for channel in range(_CONSTANTS, _CONSTANTS + _CARRIED):
            weight[channel] = 0
            weight[channel, channel] = carry


def _silence(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _finish(conv: nn.Conv2d, *, keep_rest: bool) -> None:
    """Colours out: silu(x) - silu(-x) = x. An encoder's other channels start at random."""
    weight, bias = conv.weight, conv.bias
    assert bias is not None
    if keep_rest:
        weight.normal_(0, 0.5 * math.sqrt(2 / weight[0].numel()))
        weight[conv.out_channels // 2 :] = 0  # the posterior's log variance: a constant
    else:
        weight.zero_()
    weight[:3] = 0
    weight[:, :_CONSTANTS] = 0
    bias.zero_()
    if keep_rest:
        bias[conv.out_channels // 2 :] = -6
    for color in range(3):
        weight[color, _CONSTANTS + color, 1, 1] = 1
        weight[color, _CONSTANTS + 3 + color, 1, 1] = -1


def _hold_constants(part: nn.Module) -> None:
    """No gradient for weights that write the constant channels or read them."""
    for name, module in part.named_modules():
        if not isinstance(module, nn.Conv2d) and not name.endswith("to_out.0"):
            continue
        writes, reads = name != "conv_out", name != "conv_in"
        mask = torch.ones_like(module.weight)
        if writes:
            mask[:_CONSTANTS] = 0
            bias_mask = torch.ones_like(module.bias)
            bias_mask[:_CONSTANTS] = 0
            module.bias.register_hook(lambda gradient, mask=bias_mask: gradient * mask)
        if reads:
            mask[:, :_CONSTANTS] = 0
        module.weight.register_hook(lambda gradient, mask=mask: gradient * mask)
