"""The first weights of the built-in VAE: a linear code in closed form.

The encoder is final: the 16 principal components of 8x8 pixel blocks, written as convolutions. It
is not trained. Its latents are as easy to predict as a small picture, and the transformer does
not depend on the decoder.

The decoder starts as the mean colour of each block and is trained. Group normalisation removes a
picture's level, and a plain colour is nothing but level: from random weights a VAE this small
stays at a squared error of 0.15 (-1..1), where mean colours alone have 0.03. So colours pass every
layer unchanged, residual branches start at zero, and in each layer two constant channels fix the
norm's scale (docs/lab/2026-11-22-vae-start.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from einops import rearrange
from torch import Tensor, nn

CODES = 16  # latent channels
# Each component is scaled to this power of its standard deviation. At 1, pixels, the difference
# between a star and a circle is lost in the noise. At 0.5 it is nine tenths of the loss, and the
# transformer learns it before the colours of prompts.
SPREAD = 0.75
LOG_VARIANCE = -6.0  # of the posterior, a constant
STILL = 100.0  # the encoder's constants: so large that its norm divides by a constant
ANCHOR = 4.0  # the decoder's: the standard deviation that they give a layer
_CONSTANTS = 2  # channels 0 and 1 of every layer of the decoder
_CARRIED = 6  # and the next ones: red, green, blue, and their negatives, for the way past SiLU


@dataclass(frozen=True, kw_only=True)
class Code:
    """A linear code of blocks of 8x8 pixels: `weight` (16, 192), `offset` (16,)."""

    weight: Tensor
    offset: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in -1..1 → (N, 16, H/8, W/8): the VAE's latents, a hundred times faster."""
        blocks = _blocks(pictures) @ self.weight.T + self.offset
        height, width = pictures.shape[2] // 8, pictures.shape[3] // 8
        return rearrange(blocks, "(n h w) k -> n k h w", h=height, w=width).contiguous()


def prepare_vae(vae: AutoencoderKL, pictures: Tensor) -> Code:
    """Set all weights, shift and scale from `pictures`, (N, 3, H, W) in -1..1.

    The encoder is frozen, and the decoder's constants stay constant in training. Returns the
    encoder's code, whose latents have mean 0 and standard deviation 1.
    """
    blocks = _blocks(pictures)
    code = principal_code(blocks)
    latents = blocks @ code.weight.T + code.offset
    with torch.no_grad():
        _write_encoder(vae.encoder, code)
        _write_decoder(vae.decoder, *_block_color(blocks, latents))
    vae.encoder.requires_grad_(False)
    _hold_constants(vae.decoder)
    vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    return code


def read_code(vae: AutoencoderKL) -> Code:
    """The code that `prepare_vae` has written into an encoder."""
    conv = _coding_layer(vae.encoder)
    weight = rearrange(conv.weight[:CODES, :48, :2, :2], "k c y x -> k (y x c)")
    offset = conv.bias[:CODES]
    return Code(weight=weight.detach().cpu().clone(), offset=offset.detach().cpu().clone())


def principal_code(blocks: Tensor) -> Code:
    """The code of blocks (N, 192): mean 0, and a mean square of 1 over all sixteen channels."""
    mean = blocks.double().mean(0)
    centered = blocks.double() - mean
    variances, axes = torch.linalg.eigh(centered.T @ centered / len(blocks))
    spread = variances.flip(0)[:CODES].sqrt()
    axes = axes.flip(1)[:, :CODES].T
    # An eigenvector's sign is arbitrary, and differs between machines.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    kept = spread**SPREAD
    weight = axes * (kept / spread / kept.square().mean().sqrt())[:, None]
    return Code(weight=weight.float(), offset=(-weight @ mean).float())


def _blocks(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) → (N * H/8 * W/8, 192), in the order in which three layers halve a picture."""
    return rearrange(
        pictures,
        "n c (h y3 y2 y1) (w x3 x2 x1) -> (n h w) (y3 x3 y2 x2 y1 x1 c)",
        y1=2, x1=2, y2=2, x2=2, y3=2, x3=2,
    )  # fmt: skip


def _block_color(blocks: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    """The best linear guess of a block's mean colour from its code: (3, 16) and (3,)."""
    colors = rearrange(blocks, "n (p c) -> n p c", c=3).mean(1)
    known = torch.cat([latents, torch.ones(len(latents), 1)], 1)
    guess = torch.linalg.lstsq(known, colors).solution.T
    return guess[:, :CODES], guess[:, CODES]


def _coding_layer(encoder: Any) -> Any:
    return encoder.down_blocks[2].downsamplers[0].conv


def _write_encoder(encoder: Any, code: Code) -> None:
    """`code` as convolutions: three layers fold 2x2 pixels into channels, the last one codes.

    Exactly linear: residual branches are zero, two constants make the last norm a division by
    a constant, and silu(x) - silu(-x) = x.
    """
    for parameter in encoder.parameters():
        parameter.zero_()
    for channel in range(3):
        encoder.conv_in.weight[channel, channel, 1, 1] = 1
    first, second, third, last = encoder.down_blocks
    _fold_pixels(first.downsamplers[0].conv, 3)
    _copy_channels(second.resnets[0].conv_shortcut, 12)
    _fold_pixels(second.downsamplers[0].conv, 12)
    if third.resnets[0].conv_shortcut is not None:
        _copy_channels(third.resnets[0].conv_shortcut, 48)
    weight = rearrange(code.weight, "k (y x c) -> k c y x", y=2, x=2)
    conv = _coding_layer(encoder)
    conv.weight[: 2 * CODES, :48, :2, :2] = torch.cat([weight, -weight])
    conv.bias[: 2 * CODES] = torch.cat([code.offset, -code.offset])
    anchor = STILL * math.sqrt(conv.out_channels / 2)
    conv.bias[-2:] = torch.tensor([anchor, -anchor])
    assert last.resnets[0].conv_shortcut is None  # else it would have to copy, too
    encoder.conv_norm_out.weight.fill_(STILL)
    for channel in range(CODES):
        encoder.conv_out.weight[channel, channel, 1, 1] = 1
        encoder.conv_out.weight[channel, CODES + channel, 1, 1] = -1
    encoder.conv_out.bias[CODES:] = LOG_VARIANCE


def _fold_pixels(conv: nn.Conv2d, count: int) -> None:
    """2x2 pixels of `count` channels → one pixel of four times as many."""
    for pixel in range(4):
        for channel in range(count):
            conv.weight[pixel * count + channel, channel, pixel // 2, pixel % 2] = 1


def _copy_channels(conv: nn.Conv2d, count: int) -> None:
    for channel in range(count):
        conv.weight[channel, channel, 0, 0] = 1


def _write_decoder(decoder: Any, color: Tensor, offset: Tensor) -> None:
    """Random weights, except those that carry each block's mean colour to the picture."""
    copy, resample = torch.ones(1, 1), torch.zeros(3, 3)
    resample[1, 1] = 1
    for module in decoder.modules():
        if isinstance(module, nn.GroupNorm):
            module.weight.fill_(ANCHOR)
        elif isinstance(module, ResnetBlock2D):
            _start(module.conv1, gain=math.sqrt(2))
            _silence(module.conv2)
            if module.conv_shortcut is not None:
                _start(module.conv_shortcut, carry=copy)
        elif isinstance(module, Attention):
            _silence(module.to_out[0])
        elif isinstance(getattr(module, "conv", None), nn.Conv2d):
            _start(module.conv, carry=resample)
    conv = decoder.conv_in
    _start(conv, from_latents=True)
    rows = slice(_CONSTANTS, _CONSTANTS + _CARRIED)
    conv.weight[rows] = 0
    conv.weight[rows, :, 1, 1] = torch.cat([color, -color])
    conv.bias[rows] = torch.cat([offset, -offset])
    conv = decoder.conv_out
    conv.weight.zero_()
    conv.bias.zero_()
    for channel in range(3):
        conv.weight[channel, _CONSTANTS + channel, 1, 1] = 1
        conv.weight[channel, _CONSTANTS + 3 + channel, 1, 1] = -1


def _start(
    conv: nn.Conv2d,
    *,
    gain: float = 1.0,
    carry: Tensor | None = None,
    from_latents: bool = False,
) -> None:
    """Random weights that keep a signal's size, restore the constants and pass colours on."""
    weight, bias = conv.weight, conv.bias
    assert bias is not None
    weight.normal_(0, gain / math.sqrt(weight[0].numel()))
    bias.zero_()
    anchor = ANCHOR * math.sqrt(conv.out_channels / _CONSTANTS)
    weight[:_CONSTANTS] = 0
    bias[:_CONSTANTS] = torch.tensor([anchor, -anchor])
    if not from_latents:
        weight[:, :_CONSTANTS] = 0
    if carry is not None:
        for channel in range(_CONSTANTS, _CONSTANTS + _CARRIED):
            weight[channel] = 0
            weight[channel, channel] = carry


def _silence(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _hold_constants(decoder: nn.Module) -> None:
    """Switch off gradients of weights that write or read the constant channels."""
    for name, module in decoder.named_modules():
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
