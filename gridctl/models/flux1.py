"""FLUX.1: two text encoders, a VAE with 16 channels at 1/8, tokens of 2x2 latent patches.

A family of base models, as `family.Family` says. PyTorch is imported by the functions that need
it: commands that load no model read the figures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gridctl.models.family import EncodeText, LoadEncoder, Prompt, Sizes, TextLimits, TokenLimit

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "FLUX.1"
HUB_NAME = "FLUX.1"
GATED: tuple[str, ...] = ("black-forest-labs/",)
TRAINABLE = "FLUX.1-dev"
TRANSFORMER = "FluxTransformer2DModel"
VAE = "AutoencoderKL"
TEXT_FOLDERS: tuple[str, ...] = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
BLOCK_COUNTS: tuple[str, ...] = ("num_layers", "num_single_layers")
TAKES_REFERENCES = False
TRAINING_GUIDANCE = 1.0  # FLUX.1-dev is trained at 1 and sampled at 3.5
# The linear layers of both kinds of block, attention and MLP; not the modulations.
LORA_TARGETS = (
    r".*transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
    r"|ff(_context)?\.net\.(0\.proj|2)|proj_mlp|proj_out)"
)
_PATCH = 2  # of the VAE's 1/8, a side
_T5_TOKENS, _CLIP_TOKENS = 512, 77

# FLUX.1-dev's config.json files.
TRANSFORMER_CONFIG: Mapping[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
SIZES = Sizes(
    download_gib=34,  # in bfloat16: transformer 24, T5 9.5, VAE and CLIP 0.5
    offloaded_gib={"nf4": 18, "int8": 24, "fp8": 24, "none": 36},
    # Of T5's 4.762e9 weights, the embedding and the last layer of each block are never quantised.
    text_linear=4.762e9 - (32128 * 4096 + 24 * 10240 * 4096),
    text_other=32128 * 4096 + 24 * 10240 * 4096 + 0.123e9,  # with CLIP
    text_tokens=_T5_TOKENS,
    caption_gib=0.05,
)


def check(name: str, folder: Path | None) -> None:
    """Accept every model with FLUX.1's transformer."""


def is_distilled(name: str, folder: Path | None) -> bool:
    """Whether this is FLUX.1-schnell: it has no guidance embedding."""
    if folder is None:
        return "schnell" in name.lower()
    config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    return not takes_guidance(config)


def takes_guidance(config: Mapping[str, Any]) -> bool:
    """Whether a transformer has an embedding of the guidance scale."""
    return bool(config.get("guidance_embeds"))


def mu(scheduler: Mapping[str, Any], tokens: int, steps: int | None) -> float:
    """The scheduler's own shift, whatever the number of steps."""
    from gridctl.diffusion.flow import default_mu

    return default_mu(scheduler, tokens)


# Text.


def text_limits(folder: Path | None, text_tokens: int | None) -> TextLimits:
    """T5 reads the whole prompt, CLIP 77 tokens of its beginning."""
    limit = _T5_TOKENS
    if config := _find(folder, "tokenizer_2/tokenizer_config.json"):
        stored = json.loads(config.read_text("utf-8")).get("model_max_length")
        limit = min(limit, int(stored or limit))
    return TextLimits(
        whole=TokenLimit(
            encoder="T5",
            tokens=text_tokens or limit,
            file=_find(folder, "tokenizer_2/tokenizer.json"),
        ),
        opening=TokenLimit(
            encoder="CLIP", tokens=_CLIP_TOKENS, file=_find(folder, "tokenizer/tokenizer.json")
        ),
    )


def _find(folder: Path | None, name: str) -> Path | None:
    return folder / name if folder and (folder / name).is_file() else None


@dataclass(frozen=True, kw_only=True)
class TextEncoders:
    """T5 and CLIP with their tokenizers.

    Prompts are padded to `text_tokens` T5 tokens. The transformer attends to the padding, so
    training, caches and sampling must use the same length.
    """

    clip_tokenizer: Any
    clip: Any
    t5_tokenizer: Any
    t5: Any
    text_tokens: int

    def __call__(self, prompts: Sequence[str]) -> Prompt:
        """N prompts → T5's states (N, text_tokens, D) and CLIP's pooled vector (N, P)."""
        ids = self._ids(self.t5_tokenizer, prompts, self.text_tokens)
        states = self.t5(ids.to(self.t5.device)).last_hidden_state
        return {"embeds": states, "pooled": self.pooled(prompts)}

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """N prompts → CLIP's pooled vector alone, (N, P)."""
        ids = self._ids(self.clip_tokenizer, prompts, self.clip_tokenizer.model_max_length)
        vector: Tensor = self.clip(ids.to(self.clip.device)).pooler_output
        return vector

    @staticmethod
    def _ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
        import torch

        padded = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True)
        return torch.as_tensor(padded.input_ids)


def load_text(folder: Path, text_tokens: int | None, load: LoadEncoder) -> EncodeText:
    """Load T5 and CLIP; only T5 is worth quantising."""
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

    return TextEncoders(
        clip_tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        clip=load(CLIPTextModel, "text_encoder", False),
        t5_tokenizer=T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
        t5=load(T5EncoderModel, "text_encoder_2", True),
        text_tokens=text_limits(folder, text_tokens).whole.tokens,
    )


# Latents.


def patchify(codes: Tensor) -> Tensor:
    """The VAE's (..., C, H, W) → latents (..., 4C, H/2, W/2): a token holds a 2x2 patch."""
    from einops import rearrange

    latents: Tensor = rearrange(codes, "... c (h p) (w q) -> ... (c p q) h w", p=_PATCH, q=_PATCH)
    return latents


def unpatchify(latents: Tensor) -> Tensor:
    """Latents (..., 4C, h, w) → the VAE's (..., C, 2h, 2w); undoes `patchify`."""
    from einops import rearrange

    codes: Tensor = rearrange(latents, "... (c p q) h w -> ... c (h p) (w q)", p=_PATCH, q=_PATCH)
    return codes


def to_latents(vae: Any, codes: Tensor) -> Tensor:
    """Shift and scale the VAE's (B, 16, H/8, W/8), then patchify."""
    return patchify((codes - vae.config.shift_factor) * vae.config.scaling_factor)


def to_codes(vae: Any, latents: Tensor) -> Tensor:
    """Undo `to_latents`."""
    codes: Tensor = unpatchify(latents) / vae.config.scaling_factor + vae.config.shift_factor
    return codes


def draw_noise(
    config: Mapping[str, Any], height: int, width: int, generator: torch.Generator
) -> Tensor:
    """Noise (1, 64, height, width), drawn in the VAE's layout as diffusers' FluxPipeline does."""
    import torch

    channels = int(config["in_channels"]) // _PATCH**2
    shape = (1, channels, _PATCH * height, _PATCH * width)
    return patchify(torch.randn(shape, generator=generator))


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
    """The velocity of latents (B, C, H, W) at `sigma` (B,).

    `guidance` is FLUX.1-dev's distilled scale; a transformer without an embedding of it (schnell)
    does not use it. Nor are `clean`, as a sample has one time for all of its tokens, and
    `references` used.
    """
    import torch
    from einops import rearrange

    batch, _, height, width = latents.shape
    embeds, scale = prompt["embeds"], None
    if takes_guidance(getattr(transformer, "module", transformer).config):
        scale = torch.full((batch,), guidance, device=latents.device, dtype=torch.float32)
    tokens = transformer(
        # Contiguous, so that products are rounded alike whatever the layout before.
        hidden_states=rearrange(latents, "b c h w -> b (h w) c").to(embeds.dtype).contiguous(),
        encoder_hidden_states=embeds,
        pooled_projections=prompt["pooled"],
        timestep=sigma.to(embeds.dtype),  # the transformer multiplies by 1000 itself
        img_ids=image_ids(height=height, width=width, device=latents.device),
        txt_ids=torch.zeros(embeds.shape[1], 3, device=latents.device),
        guidance=scale,
        return_dict=False,
    )[0]
    velocity: Tensor = rearrange(tokens.to(latents.dtype), "b (h w) c -> b c h w", h=height)
    return velocity


def image_ids(*, height: int, width: int, device: Any) -> Tensor:
    """Rotary positions (N, 3), (0, row, col), of height x width tokens."""
    import torch

    rows = torch.arange(height, device=device)
    cols = torch.arange(width, device=device)
    row, col = torch.meshgrid(rows, cols, indexing="ij")
    return torch.stack([torch.zeros_like(row), row, col], dim=-1).reshape(-1, 3).float()


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
    """Random inputs of FluxTransformer2DModel for `batch` images of height x width tokens."""
    import torch

    def new(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, device=device, dtype=dtype)

    return {
        "hidden_states": new(height * width, int(config["in_channels"])),
        "encoder_hidden_states": new(text_tokens, int(config["joint_attention_dim"])),
        "pooled_projections": new(int(config["pooled_projection_dim"])),
        "timestep": torch.full((batch,), 0.5, device=device, dtype=dtype),
        "guidance": torch.ones(batch, device=device) if takes_guidance(config) else None,
        "img_ids": image_ids(height=height, width=width, device=device),
        "txt_ids": torch.zeros(text_tokens, 3, device=device),
    }


# Models with random weights, for benchmarks: at full size they take FLUX.1-dev's memory and time.

Size = Literal["full", "small"]
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
CONFIGS: dict[Size, dict[str, dict[str, Any]]] = {
    "full": {
        "transformer": dict(TRANSFORMER_CONFIG),
        "vae": {
            **_VAE,
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "norm_num_groups": 32,
        },
        "t5": {
            "vocab_size": 32128,
            "d_model": 4096,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
        },
        "clip": {
            "vocab_size": 49408,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        },
    },
    "small": {
        "transformer": {
            **TRANSFORMER_CONFIG,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "joint_attention_dim": 64,
            "pooled_projection_dim": 32,
            "axes_dims_rope": (4, 14, 14),
        },
        "vae": {
            **_VAE,
            "block_out_channels": (8, 8, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 2,
        },
        "t5": {"vocab_size": 512, "d_model": 64, "d_ff": 128, "num_layers": 1, "num_heads": 1},
        "clip": {
            "vocab_size": 512,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
    },
}


def meta_parts(size: Size) -> dict[str, tuple[Any, Callable[[Path], object], str]]:
    """Sub-folder → (model on the meta device, what saves its config, name of its weight files)."""
    import torch
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    configs = CONFIGS[size]
    width = configs["clip"]["hidden_size"]
    clip_config = CLIPTextConfig(
        **configs["clip"],
        intermediate_size=4 * width,
        projection_dim=width,
        max_position_embeddings=_CLIP_TOKENS,
        hidden_act="quick_gelu",
        bos_token_id=0,  # those of the built-in tokenizer
        eos_token_id=1,
        pad_token_id=1,
    )
    t5_config = T5Config(**configs["t5"], d_kv=64, feed_forward_proj="gated-gelu", use_cache=False)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**configs["transformer"])
        autoencoder = AutoencoderKL(**configs["vae"])
        clip, t5 = CLIPTextModel(clip_config), T5EncoderModel(t5_config)
    diffusers_name, transformers_name = "diffusion_pytorch_model", "model"
    return {
        "transformer": (transformer, transformer.save_config, diffusers_name),
        "vae": (autoencoder, autoencoder.save_config, diffusers_name),
        "text_encoder": (clip, clip_config.save_pretrained, transformers_name),
        "text_encoder_2": (t5, t5_config.save_pretrained, transformers_name),
    }


def copy_small_parts(source: Path, folder: Path, *, text_tokens: int) -> None:
    """Copy everything but the models from another FLUX.1 folder; T5 then reads `text_tokens`."""
    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
    shutil.copy(source / "model_index.json", folder)
    path = folder / "tokenizer_2" / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "model_max_length": text_tokens}), encoding="utf-8")
