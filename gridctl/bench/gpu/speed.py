"""How much of the card's arithmetic a training step uses, by what it recomputes and compiles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from gridctl.bench.bare import bare_step, make_optimizer, random_inputs, wait
from gridctl.bench.gpu.meter import alone, append_row, peak_memory, reset_peak
from gridctl.errors import GridctlError
from gridctl.flux.flops import Flops

TIMED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run a step. `share` of the blocks is recomputed; `grad` off is sampling."""

    name: str
    share: float = 1.0
    batch: int = 1
    fused: bool = True
    grad: bool = True
    attention: str = "auto"


EAGER = (
    Variant(name="all recomputed"),
    Variant(name="none recomputed", share=0.0),
    Variant(name="half recomputed", share=0.5),
    Variant(name="LoRA in float32 by PEFT, all recomputed", fused=False),
    Variant(name="sampling, cuDNN attention", grad=False, attention="cudnn"),
    Variant(name="sampling, flash attention", grad=False, attention="flash"),
    Variant(name="all recomputed, batch 4", batch=4),
)
COMPILED = (
    Variant(name="compiled, all recomputed"),
    Variant(name="compiled, none recomputed", share=0.0),
)


def speed(job: Any) -> dict[str, Any]:
    """A row for each variant, appended as it is measured: seconds, memory, utilisation."""

    from gridctl.flux.adapter import add_lora
    from gridctl.flux.base import open_base

    profile = job.load()
    base = open_base(profile)
    grid, rank = profile.grid.to_grid(), profile.train.rank
    transformer = base.load_transformer(training=True).train()
    parameters = add_lora(transformer, rank=rank, alpha=rank, seed=0)
    optimizer = make_optimizer(profile.memory.optimizer, parameters)
    tokens = profile.model.text_tokens or 512
    flops = Flops.of(base.transformer_config, image_tokens=grid.num_tokens, text_tokens=tokens)
    with alone(job.lock):
        peak = matrix_flops(base.device, size=8192 if base.device.type == "cuda" else 256)
    variants = COMPILED if job.compiled else EAGER
    if job.compiled:
        transformer.compile_repeated_blocks(fullgraph=True)
    for variant in variants:
        row: dict[str, Any] = {"job": job.name, "kind": "speed", "variant": variant.name}
        row |= {"rank": rank, "batch": variant.batch, "matrix_tflops": round(peak / 1e12, 1)}
        try:
            inputs = random_inputs(base, grid, tokens, variant.batch)
            row |= _measure(job, transformer, parameters, optimizer, inputs, variant)
            one = row["seconds"] / variant.batch
            counted = flops.training if variant.grad else flops.forward
            row["tflops"] = round(counted / one / 1e12, 2)
            row["utilisation"] = round(counted / one / peak, 4)
        except (RuntimeError, GridctlError) as error:  # memory, or a kernel that is not there
            row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            optimizer.zero_grad()
        append_row(job.results, row)
    return {"variants": len(variants)}


def matrix_flops(device: Any, *, size: int) -> float:
    """FLOP/s of a square product of random bfloat16 matrices: what the card can do at most.

    The best of several tries, as other processes may be at work in some.
    """
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    wait(device)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(5):
            a @ b
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 5 * 2 * size**3 / best


def _measure(
    job: Any,
    transformer: Any,
    parameters: Any,
    optimizer: Any,
    inputs: dict[str, Any],
    variant: Variant,
) -> dict[str, Any]:
    from gridctl.flux.attention import attention_kernel
    from gridctl.flux.recompute import recompute_blocks

    recompute_blocks(transformer, variant.share)
    reset_peak()
    with (
        alone(job.lock),
        attention_kernel(variant.attention, training=variant.grad),
        nullcontext() if variant.fused else _unfused(transformer),
    ):
        warm = time.perf_counter()
        bare_step(transformer, parameters, optimizer, inputs, grad=variant.grad)
        wait(transformer.device)
        started = time.perf_counter()
        first = started - warm
        for _ in range(TIMED_STEPS):
            bare_step(transformer, parameters, optimizer, inputs, grad=variant.grad)
        wait(transformer.device)
        seconds = (time.perf_counter() - started) / TIMED_STEPS
    return {"first_seconds": round(first, 2), "seconds": round(seconds, 4), **peak_memory()}


def _unfused(transformer: Any) -> AbstractContextManager[None]:
    """PEFT's own LoRA layers, as they were before `fuse_lora`."""
    from contextlib import contextmanager

    @contextmanager
    def swap() -> Iterator[None]:
        fused = [(m, type(m)) for m in transformer.modules() if hasattr(m, "fused_adapter")]
        for module, layer_class in fused:
            module.__class__ = layer_class.__mro__[2]
        yield
        for module, layer_class in fused:
            module.__class__ = layer_class

    return swap()
