"""How much of the card's arithmetic a training step uses, by what it recomputes and compiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from gridctl.bench.bare import bare_step, make_optimizer, random_inputs, wait
from gridctl.bench.gpu.meter import alone, append_row, peak_memory, reset_peak
from gridctl.errors import GridctlError
from gridctl.models.flops import Flops

TIMED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run a step. `share` of the blocks is recomputed; `grad` off is sampling."""

    name: str
    share: float = 1.0
    grad: bool = True
    fused: bool = True
    attention: str = "auto"
    compiled: bool = False


VARIANTS = (  # from the first compiled one on, all are
    Variant(name="all recomputed"),
    Variant(name="half recomputed", share=0.5),
    Variant(name="none recomputed", share=0.0),
    Variant(name="sampling, cuDNN attention", grad=False, attention="cudnn"),
    Variant(name="sampling, flash attention", grad=False, attention="flash"),
    Variant(name="sampling, LoRA by PEFT's layers", grad=False, fused=False),
    Variant(name="none recomputed, compiled", share=0.0, compiled=True),
    Variant(name="all recomputed, compiled", compiled=True),
    Variant(name="sampling, compiled", grad=False, compiled=True),
    Variant(  # last, as it can end the process: see `attention_kernel`
        name="none recomputed, compiled, cuDNN attention",
        share=0.0,
        compiled=True,
        attention="cudnn",
    ),
)
# Parts of the names of GPU kernels, in this order: attention's are full of "cutlass", too.
_KERNELS = {
    "attention": ("flash", "fmha", "sdpa", "attention"),
    "products": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
}


def speed(job: Any) -> dict[str, Any]:
    """A row for each variant, appended as it is measured: seconds, memory, utilisation."""

    from gridctl.lora.adapters import add_lora
    from gridctl.models.base import compile_blocks, open_base

    profile = job.load()
    base = open_base(profile)
    grid, rank = profile.grid.to_grid(), profile.train.rank
    transformer = base.load_transformer(training=True).train()
    parameters = add_lora(transformer, rank=rank, alpha=rank, seed=0)
    optimizer = make_optimizer(profile.memory.optimizer, parameters)
    tokens = profile.model.text_tokens or 512
    flops = Flops.of(base.transformer_config, image_tokens=grid.num_tokens, text_tokens=tokens)
    on_gpu = base.device.type == "cuda"
    with alone(job.lock):
        peak = matrix_flops(base.device, size=8192 if on_gpu else 256)
    variants = [v for v in VARIANTS if on_gpu or not v.compiled]  # a CPU compiles for minutes
    compiled = False
    for variant in variants:
        row: dict[str, Any] = {"job": job.name, "kind": "speed", "variant": variant.name}
        row |= {"rank": rank, "matrix_tflops": round(peak / 1e12, 1)}
        try:
            if variant.compiled and not compiled:
                compile_blocks(transformer, "train.compile")
                compiled = True
            step = partial(
                bare_step,
                transformer,
                parameters,
                optimizer,
                random_inputs(base, grid, tokens, 1),
                grad=variant.grad,
            )
            row |= _measure(job, transformer, step, variant)
            counted = flops.training if variant.grad else flops.forward
            row["tflops"] = round(counted / row["seconds"] / 1e12, 2)
            row["utilisation"] = round(counted / row["seconds"] / peak, 4)
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
    job: Any, transformer: Any, step: Callable[[], None], variant: Variant
) -> dict[str, Any]:
    from gridctl.models.attention import attention_kernel, recompute_blocks

    recompute_blocks(transformer, variant.share)
    reset_peak()
    device = transformer.device
    with (
        alone(job.lock),
        attention_kernel(variant.attention, training=variant.grad),
        nullcontext() if variant.fused else _unfused(transformer),
    ):
        warm = time.perf_counter()
        step()
        wait(device)
        started = time.perf_counter()
        first = started - warm
        for _ in range(TIMED_STEPS):
            step()
        wait(device)
        seconds = (time.perf_counter() - started) / TIMED_STEPS
        memory = peak_memory()
        kernels = kernel_seconds(step) if device.type == "cuda" else {}
    return {"first_seconds": round(first, 2), "seconds": round(seconds, 4), **memory, **kernels}


def kernel_seconds(step: Callable[[], None]) -> dict[str, Any]:
    """Where the GPU's time goes in a step: seconds by kind of kernel, and the slowest others."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as record:
        step()
    seconds = dict.fromkeys((*_KERNELS, "rest"), 0.0)
    others: dict[str, float] = {}
    for event in record.key_averages():
        if event.device_type.name != "CUDA":
            continue
        name, took = event.key.lower(), event.self_device_time_total / 1e6
        kind = next((k for k, parts in _KERNELS.items() if any(p in name for p in parts)), "rest")
        seconds[kind] += took
        if kind == "rest":
            others[event.key[:120]] = round(took, 4)
    slowest = sorted(others.items(), key=lambda item: -item[1])[:8]
    return {
        "kernel_seconds": {kind: round(took, 4) for kind, took in seconds.items()},
        "slowest_of_the_rest": dict(slowest),
    }


@contextmanager
def _unfused(transformer: Any) -> Iterator[None]:
    """PEFT's own LoRA layers, as they were before `fuse_lora`."""
    fused = [(m, type(m)) for m in transformer.modules() if hasattr(m, "fused_adapter")]
    for module, layer_class in fused:
        module.__class__ = layer_class.__mro__[2]
    try:
        yield
    finally:
        for module, layer_class in fused:
            module.__class__ = layer_class
