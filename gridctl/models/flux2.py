"""FLUX.2-klein-4B: one text encoder (Qwen3-4B), a VAE with 32 channels at 1/8 and a batch norm.

A family of base models, as `family.Family` says. Of the two models, the base is trained and needs
classifier-free guidance; its distilled twin draws in 4 steps without. PyTorch is imported by the
functions that need it: commands that load no model read the figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridctl.errors import UsageError
from gridctl.models.family import EncodeText, LoadEncoder, Prompt, Sizes, TextLimits, TokenLimit
from gridctl.models.flux1 import patchify, unpatchify

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "FLUX.2-klein"
HUB_NAME = "FLUX.2"
GATED: tuple[str, ...] = ()
TRAINABLE = "FLUX.2-klein-base-4B"
TRANSFORMER = "Flux2Transformer2DModel"
VAE = "AutoencoderKLFlux2"
TEXT_FOLDERS: tuple[str, ...] = ("tokenizer", "text_encoder")
BLOCK_COUNTS: tuple[str, ...] = ("num_layers", "num_single_layers")
TAKES_REFERENCES = True
TRAINING_GUIDANCE = 1.0  # not read: no klein has an embedding of it
# Every linear layer of every block. Modulations belong to no block: all blocks share them.
LORA_TARGETS = (
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
    r"|ff(_context)?\.linear_(in|out))"
    r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
)
_TEXT_TOKENS = 512
_TEMPLATE_TOKENS = 12  # of the chat template around a prompt
_LAYERS = (9, 18, 27)  # of Qwen3, whose states are joined
_TEXT_WIDTH_9B = 4096  # of Qwen3-8B, the text encoder of FLUX.2-klein-9B
_JUMP = 4300  # tokens above which the shift does not depend on the number of steps

# FLUX.2-klein-4B's config.json files.
TRANSFORMER_CONFIG: Mapping[str, Any] = {
    "patch_size": 1,
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "timestep_guidance_channels": 256,
    "mlp_ratio": 3.0,
    "axes_dims_rope": (32, 32, 32, 32),
    "rope_theta": 2000,
    "guidance_embeds": False,
}
_QWEN_LINEAR = 36 * (2 * 2560 * 4096 + 2 * 2560 * 1024 + 3 * 2560 * 9728)
SIZES = Sizes(
    download_gib=16,  # in bfloat16: transformer 7.2, Qwen3-4B 7.5, VAE 0.3
    offloaded_gib={"nf4": 12, "int8": 14, "fp8": 14, "none": 18},
    text_linear=_QWEN_LINEAR,
    text_other=151936 * 2560,  # the embedding
    text_tokens=_TEXT_TOKENS,
    caption_gib=0.12,
)


def check(name: str, folder: Path | None) -> None:
    """Refuse the other models of FLUX.2: by their files, or by their name without.

    Raises UsageError for FLUX.2-dev, FLUX.2-klein-9B, and a text encoder that does not fit.
    """
    remedy = f"use {TRAINABLE} or FLUX.2-klein-4B."
    if folder is None:
        if "klein" not in name.lower() or "9b" in name.lower():
            raise UsageError(f"{name} is not FLUX.2-klein-4B, which gridctl draws with; {remedy}")
        return
    paths = [folder / part / "config.json" for part in ("transformer", "text_encoder")]
    if not all(path.is_file() for path in paths):
        return  # an incomplete download; loading reports it
    config, text = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    if takes_guidance(config):
        raise UsageError(
            f"{name} is FLUX.2-dev (its transformer has a guidance embedding), and gridctl draws "
            f"with FLUX.2-klein-4B; {remedy}"
        )
    if text.get("model_type") != "qwen3":
        raise UsageError(
            f"{name} has the text encoder {text.get('model_type')}, and FLUX.2-klein reads "
            f"Qwen3; {remedy}"
        )
    width, wanted = int(text["hidden_size"]), int(config["joint_attention_dim"]) / len(_LAYERS)
    if width != wanted:
        raise UsageError(
            f"{name} has a Qwen3 of width {width}, and its transformer takes {wanted:g}; {remedy}"
        )
    if width >= _TEXT_WIDTH_9B:
        raise UsageError(
            f"{name} is FLUX.2-klein-9B (its Qwen3 has width {width}), and gridctl draws with "
            f"FLUX.2-klein-4B; {remedy}"
        )
    if int(text["num_hidden_layers"]) < _LAYERS[-1]:
        raise UsageError(
            f"{name} has a Qwen3 of {text['num_hidden_layers']} layers, and FLUX.2-klein reads "
            f"layer {_LAYERS[-1]}; {remedy}"
        )


def is_distilled(name: str, folder: Path | None) -> bool:
    """Whether this is the model of 4 steps: model_index.json says so."""
    if folder is None:
        return "base" not in name.lower()
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return bool(index.get("is_distilled"))


def takes_guidance(config: Mapping[str, Any]) -> bool:
    """Whether a transformer has an embedding of the guidance scale: no klein does."""
    return bool(config.get("guidance_embeds"))


def mu(scheduler: Mapping[str, Any], tokens: int, steps: int | None) -> float:
    """The empirical shift of diffusers' Flux2KleinPipeline to sample; FLUX.1's shift to train.

    Up to 4,300 tokens it depends on the number of steps. There it jumps: 4,096 tokens in 50
    steps have 2.02, 4,301 tokens have 1.18.
    """
    from gridctl.diffusion.flow import default_mu

    if steps is None:
        return default_mu(scheduler, tokens)
    at_200_steps = 0.00016927 * tokens + 0.45666666
    if tokens > _JUMP:
        return at_200_steps
    at_10_steps = 8.73809524e-05 * tokens + 1.89833333
    slope = (at_200_steps - at_10_steps) / 190
    return slope * steps + at_200_steps - 200 * slope


# Text.


def text_limits(folder: Path | None, text_tokens: int | None) -> TextLimits:
    """Qwen3 reads 512 tokens, of which the chat template takes 12."""
    path = folder / "tokenizer" / "tokenizer.json" if folder else None
    limit = TokenLimit(
        encoder="Qwen3",
        tokens=max(1, (text_tokens or _TEXT_TOKENS) - _TEMPLATE_TOKENS),
        file=path if path and path.is_file() else None,
    )
    return TextLimits(whole=limit, opening=limit)


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """Qwen3 with its tokenizer.

    Prompts are padded to `text_tokens`. Qwen3 masks the padding, and the transformer attends to
    its states, so training, caches and sampling must use the same length.
    """

    tokenizer: Any
    qwen: Any
    text_tokens: int

    def __call__(self, prompts: Sequence[str]) -> Prompt:
        """N prompts → the states of three layers, joined, (N, text_tokens, 3 W)."""
        import torch

        padded = self.tokenizer(
            [self._chat(prompt) for prompt in prompts],
            padding="max_length",
            padding_side="right",
            max_length=self.text_tokens,
            truncation=True,
        )
        ids, mask = (
            torch.as_tensor(padded[name]).to(self.qwen.device)
            for name in ("input_ids", "attention_mask")
        )
        found = self.qwen(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        )
        return {"embeds": torch.cat([found.hidden_states[layer] for layer in _LAYERS], dim=-1)}

    def _chat(self, prompt: str) -> str:
        chat: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return chat


def load_text(folder: Path, text_tokens: int | None, load: LoadEncoder) -> EncodeText:
    """Load Qwen3; the layers that nobody reads are dropped."""
    from transformers import Qwen2TokenizerFast, Qwen3Model

    qwen = load(Qwen3Model, "text_encoder", True)
    # One more than is read: the last layer's states are normalised.
    del qwen.layers[_LAYERS[-1] + 1 :]
    qwen.config.num_hidden_layers = len(qwen.layers)
    return TextEncoder(
        tokenizer=Qwen2TokenizerFast.from_pretrained(folder / "tokenizer"),
        qwen=qwen,
        text_tokens=text_tokens or _TEXT_TOKENS,
    )


# Latents.


def to_latents(vae: Any, codes: Tensor) -> Tensor:
    """Patchify the VAE's (B, 32, H/8, W/8), then normalise each channel by its batch norm."""
    mean, std = _batch_norm(vae, codes)
    return (patchify(codes) - mean) / std


def to_codes(vae: Any, latents: Tensor) -> Tensor:
    """Undo `to_latents`."""
    mean, std = _batch_norm(vae, latents)
    return unpatchify(latents * std + mean)


def _batch_norm(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each channel, (1, C, 1, 1)."""
    mean, variance = (x.view(1, -1, 1, 1) for x in (vae.bn.running_mean, vae.bn.running_var))
    return mean.to(like), (variance + vae.config.batch_norm_eps).sqrt().to(like)


def draw_noise(
    config: Mapping[str, Any], height: int, width: int, generator: torch.Generator
) -> Tensor:
    """Noise (1, 128, height, width), as diffusers' Flux2KleinPipeline draws it."""
    import torch

    return torch.randn(1, int(config["in_channels"]), height, width, generator=generator)


# The transformer.


def blocks(transformer: Any) -> list[Any]:
    """The double blocks, then the single ones."""
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]


def predict(
    transformer: Any,
    latents: Tensor,
    sigma: Tensor,
    prompt: Prompt,
    guidance: float,
    clean: Tensor | None = None,
    references: Sequence[Tensor] = (),
) -> Tensor:
    """The velocity of latents (B, C, H, W) at `sigma` (B,); `guidance` is not read.

    Tokens that are `clean` have time 0. `references` (B, C, h, w) are pictures that the
    transformer sees beside the image, as tokens after its own.
    """
    import torch
    from einops import rearrange

    height, width = latents.shape[-2:]
    embeds, pictures = prompt["embeds"], [latents, *references]
    # Contiguous, so that products are rounded alike whatever the layout before.
    tokens = [rearrange(p, "b c h w -> b (h w) c").to(embeds.dtype) for p in pictures]
    ids = [
        image_ids(height=p.shape[-2], width=p.shape[-1], time=10 * k, device=latents.device)
        for k, p in enumerate(pictures)
    ]
    plain = getattr(transformer, "module", transformer)
    own_time = nullcontext() if clean is None else _clean_tokens(plain, clean, tokens, embeds)
    with own_time:
        predicted = transformer(
            hidden_states=torch.cat(tokens, dim=1).contiguous(),
            encoder_hidden_states=embeds,
            timestep=sigma.to(embeds.dtype),  # the transformer multiplies by 1000 itself
            img_ids=torch.cat(ids),
            txt_ids=text_ids(embeds.shape[1], device=latents.device),
            guidance=None,
            return_dict=False,
        )[0]
    predicted = predicted[:, : height * width].to(latents.dtype)
    velocity: Tensor = rearrange(predicted, "b (h w) c -> b c h w", h=height)
    return velocity


@contextmanager
def _clean_tokens(
    transformer: Any, clean: Tensor, tokens: Sequence[Tensor], embeds: Tensor
) -> Iterator[None]:
    """Give tokens that are clean, (B, 1, H, W), the modulations of time 0.

    All blocks share their modulations, so three modules decide the time of every token.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    others = sum(more.shape[1] for more in tokens[1:])
    image = F.pad(clean.flatten(1), (0, others))
    both = F.pad(image, (embeds.shape[1], 0))  # text comes first in single blocks
    zeros = torch.zeros(len(embeds), device=embeds.device, dtype=embeds.dtype)
    at_zero = transformer.time_guidance_embed(zeros, None)

    def choose(mask: Tensor) -> Any:
        def hook(module: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            other = module.forward(*inputs[:-1], at_zero)  # the last input is the time embedding
            if output.ndim == 2:
                output, other = output[:, None], other[:, None]
            return torch.where(mask[..., None], other, output)

        return hook

    hooks = [
        transformer.double_stream_modulation_img.register_forward_hook(choose(image)),
        transformer.single_stream_modulation.register_forward_hook(choose(both)),
        transformer.norm_out.register_forward_hook(choose(image)),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def image_ids(*, height: int, width: int, time: int = 0, device: Any) -> Tensor:
    """Rotary positions (N, 4), (time, row, col, 0), of height x width tokens."""
    import torch

    axes = [torch.tensor([time]), torch.arange(height), torch.arange(width), torch.tensor([0])]
    return torch.cartesian_prod(*(axis.to(device) for axis in axes))


def text_ids(count: int, *, device: Any) -> Tensor:
    """Rotary positions (N, 4), (0, 0, 0, index), of text tokens."""
    import torch

    ids = torch.zeros(count, 4, dtype=torch.int64, device=device)
    ids[:, 3] = torch.arange(count, device=device)
    return ids


def inputs(
    config: Mapping[str, Any],
    *,
    batch: int,
    height: int,
    width: int,
    text_tokens: int,
    device: Any,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Random inputs of Flux2Transformer2DModel for `batch` images of height x width tokens."""
    import torch

    def new(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, device=device, dtype=dtype)

    return {
        "hidden_states": new(height * width, int(config["in_channels"])),
        "encoder_hidden_states": new(text_tokens, int(config["joint_attention_dim"])),
        "timestep": torch.full((batch,), 0.5, device=device, dtype=dtype),
        "guidance": None,
        "img_ids": image_ids(height=height, width=width, device=device),
        "txt_ids": text_ids(text_tokens, device=device),
    }
