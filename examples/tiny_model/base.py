"""Train the transformer and the text encoders of the built-in base, together.

The result is an image model; `batches` draws what it sees. The text encoders first learn what
words mean, from texts alone (`meaning`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gridctl.diffusion.flow import add_noise, default_mu, draw_sigmas, velocity
from gridctl.machine.devices import has_fast_bfloat16
from gridctl.models.flux1 import TextEncoders, draw_noise, predict
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from tiny_model.batches import Batch, draw_batch, draw_pictures
from tiny_model.codec import Code
from tiny_model.hints import picture_head, place_head, token_places
from tiny_model.meaning import LESSON_STEPS, MeaningHead, teach_words
from tiny_model.model import TEXT_TOKENS, build_scheduler
from tiny_model.muon import Muon

MUON_RATE = 0.02  # for the matrices of the transformer's blocks
ADAM_RATE = 2e-3  # for all other parameters
WARMUP = 50
TOKENS_PER_STEP = 3 * (384 + TEXT_TOKENS)
# Share of steps at full learning rates. They then fall to 0 in a straight line, and batches grow:
# at low rates less gradient noise is worth more than more steps.
CONSTANT_SHARE = 0.4
LARGER = 3
SINGLES_SHARE = 0.3  # share of steps, from the start, with single pictures only
HINT_WEIGHT = 2.0
PLACE_WEIGHT = 0.5
MEANING_WEIGHT = 0.1
CHECKPOINT_EVERY = 250


def train_base(
    work: Path,
    code: Code,
    transformer: Any,
    text: TextEncoders,
    *,
    steps: int,
    seed: int,
    device: str,
    log: Callable[[str], None],
    is_learned: bool = False,
    compiled: bool = False,
) -> float:
    """Train both in place for `steps`, or resume from `work`; returns the mean loss.

    A model that `is_learned` skips the language lesson, which would change words that its
    transformer knows, and gets large batches of all kinds from the first step. `compiled` blocks
    take 0.7 of the time per step, after minutes of compiling, and need a C++ compiler.
    """
    layers = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    head = picture_head(layers[len(layers) // 2 - 1], transformer.inner_dim)
    place = place_head(transformer.transformer_blocks[-1], transformer.inner_dim)
    meaning = MeaningHead()
    modules = {"transformer": transformer, "clip": text.clip, "t5": text.t5}
    modules |= {"head": head, "place": place, "meaning": meaning}
    model = nn.ModuleDict(modules).to(device).train()
    dtype = torch.bfloat16 if has_fast_bfloat16(torch.device(device)) else torch.float32
    log(f"base: matrices are multiplied in {str(dtype).removeprefix('torch.')}")
    optimizers = _optimizers(model, dtype)
    step, mean_loss = 0, float("nan")
    if saved := list_checkpoints(work / "base"):
        step, tensors, facts = read_checkpoint(saved[-1])
        mean_loss = float(facts["loss"])
        model.load_state_dict(tensors, strict=False)
        for name, optimizer in optimizers.items():
            load_optimizer(optimizer, _of(name, tensors))
    elif not is_learned:
        teach_words(text, meaning, steps=min(LESSON_STEPS, steps), seed=seed, log=log)
    pictures = draw_pictures(code, seed=seed)
    full_rates = {name: optimizer.defaults["lr"] for name, optimizer in optimizers.items()}
    if compiled:
        torch._dynamo.config.recompile_limit = 64  # one graph per batch shape
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    started, first = time.monotonic(), step
    while step < steps:
        warm, fall = (step + 1) / WARMUP, (steps - step) / (steps * (1 - CONSTANT_SHARE))
        for name, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = full_rates[name] * min(1.0, warm, fall)
        is_large = is_learned or step >= CONSTANT_SHARE * steps
        batch = draw_batch(
            pictures,
            seed=seed,
            step=step,
            only_singles=not is_learned and step < SINGLES_SHARE * steps,
            tokens=TOKENS_PER_STEP * (LARGER if is_large else 1),
        )
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with _fast_math(dtype, device, fused=compiled):
            loss = _flow_loss(transformer, text, batch, generator)
            hint = head.loss(batch.hints.to(device))
            placed = place.loss(token_places(batch.grid).to(device))
            meant = meaning.loss(text, seed=seed, step=step)
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        whole = loss + HINT_WEIGHT * hint + PLACE_WEIGHT * placed + MEANING_WEIGHT * meant
        whole.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        step += 1
        mean_loss = loss.item() if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 50 == 0:
            pace = (time.monotonic() - started) / (step - first)
            log(
                f"base step {step}/{steps} loss {mean_loss:.4f}, of hints {hint.item():.3f}, "
                f"places {placed.item():.3f}, words {meant.item():.3f}, {pace:.2f} s/step"
            )
        if step % CHECKPOINT_EVERY == 0 or step == steps:
            # By parameter: T5 has its embedding under two names.
            tensors = dict(model.named_parameters())
            for name, optimizer in optimizers.items():
                tensors |= {f"{name}.{k}": v for k, v in optimizer_tensors(optimizer).items()}
            write_checkpoint(
                work / "base", step, tensors, metadata={"loss": str(mean_loss)}, keep=2
            )
    return mean_loss


def _flow_loss(
    transformer: Any, text: TextEncoders, batch: Batch, generator: torch.Generator
) -> Tensor:
    """The flow-matching loss of a batch, as in `gridctl train`."""
    latents = batch.latents
    count, _, height, width = latents.shape
    mu = default_mu(build_scheduler().config, height * width)
    sigma = draw_sigmas(count, mu=mu, mean=0.0, std=1.0, generator=generator)
    config = transformer.config
    noise = torch.cat([draw_noise(config, height, width, generator) for _ in range(count)])
    # The model is not distilled: it must draw the same at every guidance scale.
    guidance = 1 + 4 * float(torch.rand((), generator=generator))
    latents, noise, sigma = (x.to(transformer.device) for x in (latents, noise, sigma))
    prompt = replace(text, text_tokens=batch.text_tokens)(batch.captions)
    noisy = add_noise(latents, noise, sigma[:, None, None, None])
    predicted = predict(transformer, noisy, sigma, prompt, guidance)
    return F.mse_loss(predicted, velocity(latents, noise))


def _fast_math(dtype: torch.dtype, device: str, *, fused: bool) -> ExitStack:
    """Context for a forward pass that multiplies in `dtype`, with fused attention or without."""
    stack = ExitStack()
    if dtype != torch.float32:
        stack.enter_context(torch.autocast(device, dtype))
        if device == "cpu" and not fused:  # its bfloat16 gradient is slow unless compiled
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack


def _optimizers(model: nn.ModuleDict, dtype: torch.dtype) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = "transformer_blocks." in name and "norm" not in name and parameter.ndim == 2
        (matrices if inside else others).append(parameter)
    return {
        "muon": Muon(matrices, lr=MUON_RATE, dtype=dtype),
        "adam": torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.99), weight_decay=0.01),
    }


def _of(optimizer: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one optimizer in a checkpoint, under its own names."""
    head = f"{optimizer}."
    return {name[len(head) :]: tensor for name, tensor in tensors.items() if name.startswith(head)}
