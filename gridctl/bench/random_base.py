"""A base model with FLUX.1's shapes and random weights, grids to train it on, and bare steps of it.

It takes the same memory and the same time as FLUX.1-dev, and needs no download and no licence. A
bare step has nothing of gridctl around the transformer: what training is compared with.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gridctl.dataset.grid_image import compose, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.geometry import Grid
from gridctl.machine.quiet import quiet_libraries
from gridctl.models.memory import FLUX_DEV
from gridctl.prompt import DEFAULT_LAYOUT, layout_prompt
from gridctl.tiny.captions import clip_caption
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import sample_scene
from gridctl.tiny.weights import BASE_FOLDER

Size = Literal["full", "small"]
SHARD_BYTES = 2 * 2**30

TRANSFORMER: dict[Size, dict[str, Any]] = {
    "full": FLUX_DEV,
    "small": {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 1,
        "num_single_layers": 2,
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "joint_attention_dim": 64,
        "pooled_projection_dim": 32,
        "guidance_embeds": True,
        "axes_dims_rope": (4, 14, 14),
    },
}
T5 = {
    "full": {
        "vocab_size": 32128,
        "d_model": 4096,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
    },
    "small": {"vocab_size": 512, "d_model": 64, "d_ff": 128, "num_layers": 1, "num_heads": 1},
}
CLIP = {
    "full": {"vocab_size": 49408, "width": 768, "layers": 12, "heads": 12},
    "small": {"vocab_size": 512, "width": 32, "layers": 1, "heads": 2},
}
_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
VAE: dict[Size, dict[str, Any]] = {
    "full": {
        **_VAE,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "norm_num_groups": 32,
    },
    "small": {
        **_VAE,
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 2,
    },
}


def make_base(
    folder: Path,
    size: Size,
    *,
    device: str,
    workers: Executor | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a FLUX.1-dev folder with random bfloat16 weights; returns `folder`.

    Large weight files are made on `device` by `workers` at the same time. They are links to
    files with names of 64 hex digits, as in the Hub's cache, so that nothing reads them for a
    hash.
    """
    jobs: list[tuple[Path, dict[str, tuple[int, ...]], int, str]] = []
    for part, (model, save_config, weights) in make_models(size).items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        save_config(folder / part)
        jobs += [
            (*job, len(jobs) + k, device)
            for k, job in enumerate(_files(folder / part, model, weights, shard_bytes))
        ]
    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        shutil.copytree(BASE_FOLDER / name, folder / name, dirs_exist_ok=True)
    _set_length(folder / "tokenizer_2" / "tokenizer_config.json", 512 if size == "full" else 32)
    shutil.copy(BASE_FOLDER / "model_index.json", folder)
    columns = list(zip(*jobs, strict=True))
    for _ in (workers.map if workers else map)(write_random, *columns):
        pass
    return folder


def make_grids(folder: Path, grid: Grid, *, count: int) -> Path:
    """Write captioned grid images of the toy world; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        scene = sample_scene(rng)
        facts = GridMetadata(
            grid=grid,
            source=f"clip_{number}.mp4",
            times_seconds=tuple(k / 8 for k in range(grid.num_frames)),
            fps=8.0,
            num_frames=grid.num_frames,
        )
        path = folder / f"clip_{number}.png"
        save_grid(compose(render_clip(scene, grid.num_frames, grid.cell), grid), path, facts)
        opening = layout_prompt(grid, DEFAULT_LAYOUT, fps=facts.fps)
        path.with_suffix(".txt").write_text(f"{opening} {clip_caption(scene, rng)}\n", "utf-8")
    return folder


def write_random(path: Path, shapes: dict[str, tuple[int, ...]], seed: int, device: str) -> None:
    """Write random bfloat16 tensors of these shapes, spread as PyTorch's layers begin."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator(device).manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        tensor = torch.zeros(shape, device=device, dtype=torch.bfloat16)
        if len(shape) > 1:
            tensor.normal_(0, 1 / math.sqrt(3 * math.prod(shape[1:])), generator=generator)
        elif name.endswith("weight"):
            tensor.fill_(1)  # norms
        tensors[name] = tensor.cpu()
    save_file(tensors, path, metadata={"format": "pt"})


def make_models(size: Size) -> dict[str, tuple[Any, Callable[[Path], object], str]]:
    """Part → (model without memory, what saves its config, name of its weight files)."""
    import torch

    quiet_libraries()
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip, t5 = CLIP[size], T5[size]
    clip_config = CLIPTextConfig(
        vocab_size=clip["vocab_size"],
        hidden_size=clip["width"],
        intermediate_size=4 * clip["width"],
        projection_dim=clip["width"],
        num_hidden_layers=clip["layers"],
        num_attention_heads=clip["heads"],
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=0,  # those of the built-in tokenizer
        eos_token_id=1,
        pad_token_id=1,
    )
    t5_config = T5Config(**t5, d_kv=64, feed_forward_proj="gated-gelu", use_cache=False)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**TRANSFORMER[size])
        autoencoder = AutoencoderKL(**VAE[size])
        clip_model, t5_model = CLIPTextModel(clip_config), T5EncoderModel(t5_config)
    diffusers_name, transformers_name = "diffusion_pytorch_model", "model"
    return {
        "transformer": (transformer, transformer.save_config, diffusers_name),
        "vae": (autoencoder, autoencoder.save_config, diffusers_name),
        "text_encoder": (clip_model, clip_config.save_pretrained, transformers_name),
        "text_encoder_2": (t5_model, t5_config.save_pretrained, transformers_name),
    }


def _files(
    folder: Path, model: Any, name: str, shard_bytes: int
) -> Sequence[tuple[Path, dict[str, tuple[int, ...]]]]:
    """The weight files of a model with the shapes in each; writes links and an index."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = shard_bytes
    for key, tensor in model.state_dict().items():
        if key == "encoder.embed_tokens.weight":  # T5's `shared.weight` once more
            continue
        needed = 2 * tensor.numel()
        if needed > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        room -= needed
        shards[-1][key] = tuple(tensor.shape)
    blobs = folder.parent / "blobs"
    blobs.mkdir(exist_ok=True)
    files = []
    index: dict[str, str] = {}
    for number, shapes in enumerate(shards, start=1):
        part = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        link = folder / f"{name}{part}.safetensors"
        blob = blobs / hashlib.sha256(f"{folder.name} {number} {shapes}".encode()).hexdigest()
        link.unlink(missing_ok=True)
        link.symlink_to(blob.resolve())
        files.append((blob, shapes))
        index |= dict.fromkeys(shapes, link.name)
    if len(shards) > 1:
        total = sum(2 * math.prod(shape) for shapes in shards for shape in shapes.values())
        content = {"metadata": {"total_size": total}, "weight_map": index}
        (folder / f"{name}.safetensors.index.json").write_text(json.dumps(content))
    return files


def _set_length(path: Path, length: int) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "model_max_length": length}), encoding="utf-8")


def bare_step(
    transformer: Any,
    parameters: Any,
    optimizer: Any,
    inputs: dict[str, Any],
    *,
    grad: bool,
    autocast: bool = False,
) -> None:
    """Forward, backward and optimizer step, with nothing else of `gridctl train`.

    Without `grad` only the forward pass. `autocast` multiplies in bfloat16 in it.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    device = inputs["hidden_states"].device.type
    with torch.set_grad_enabled(grad), torch.autocast(device, torch.bfloat16, enabled=autocast):
        predicted = transformer(**inputs, return_dict=False)[0]
    if grad:
        F.mse_loss(predicted.float(), torch.zeros_like(predicted, dtype=torch.float32)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def random_inputs(base: Any, grid: Any, text_tokens: int, batch: int) -> dict[str, Any]:
    """Random inputs of a transformer for `batch` grids and as many captions, on its device."""
    import torch

    from gridctl.models.latents import image_ids

    config = base.transformer_config
    width, height = grid.size("token")
    random = {
        "hidden_states": (batch, grid.num_tokens, config["in_channels"]),
        "encoder_hidden_states": (batch, text_tokens, config["joint_attention_dim"]),
        "pooled_projections": (batch, config["pooled_projection_dim"]),
    }
    tensors = {
        name: torch.randn(shape, device=base.device, dtype=base.dtype)
        for name, shape in random.items()
    }
    return {
        **tensors,
        "timestep": torch.full((batch,), 0.5, device=base.device, dtype=base.dtype),
        "guidance": torch.ones(batch, device=base.device),
        "img_ids": image_ids(height=height, width=width, device=base.device),
        "txt_ids": torch.zeros(text_tokens, 3, device=base.device),
    }


def wait(device: Any) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def make_optimizer(name: str, parameters: Any) -> Any:
    """AdamW, or bitsandbytes' with its state in 8 bits ("adamw8bit")."""
    import torch

    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-5)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, lr=1e-5)
