"""A base model with FLUX.1's shapes and random weights, grids to train it on, and bare steps of it.

It takes the same memory and the same time as FLUX.1-dev, and needs no download and no licence. A
bare step has nothing of gridctl around the transformer: what training is compared with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.dataset.grid_image import compose, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.geometry import Grid
from gridctl.machine.quiet import quiet_libraries
from gridctl.models import flux1
from gridctl.prompt import DEFAULT_LAYOUT, layout_prompt
from gridctl.tiny.captions import clip_caption
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import sample_scene
from gridctl.tiny.weights import BASE_FOLDER

SHARD_BYTES = 2 * 2**30


def make_base(
    folder: Path,
    size: flux1.Size,
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
    quiet_libraries()
    for part, (model, save_config, weights) in flux1.meta_parts(size).items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        save_config(folder / part)
        jobs += [
            (*job, len(jobs) + k, device)
            for k, job in enumerate(_files(folder / part, model, weights, shard_bytes))
        ]
    flux1.copy_small_parts(BASE_FOLDER, folder, text_tokens=512 if size == "full" else 32)
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


def _files(
    folder: Path, model: Any, name: str, shard_bytes: int
) -> Sequence[tuple[Path, dict[str, tuple[int, ...]]]]:
    """The weight files of a model with the shapes in each; writes links and an index."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = shard_bytes
    for key, tensor in model.state_dict().items():
        if key == "encoder.embed_tokens.weight":  # `shared.weight` once more
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
    width, height = grid.size("token")
    inputs: dict[str, Any] = base.family.inputs(
        base.transformer_config,
        batch=batch,
        height=height,
        width=width,
        text_tokens=text_tokens,
        device=base.device,
        dtype=base.dtype,
    )
    return inputs


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
