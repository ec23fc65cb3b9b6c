"""Jobs of the GPU check, each in a process of its own under its memory cap."""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gridctl.bench.gpu.meter import (
    Phases,
    StepTimer,
    allocated_gib,
    allocator,
    append_row,
    cap_memory,
    exclusive,
    kernel_seconds,
    matrix_flops,
    peak_memory,
    reset_peak,
)
from gridctl.bench.random_base import bare_step, make_optimizer, random_inputs, wait
from gridctl.errors import GridctlError
from gridctl.machine.devices import grow_segments
from gridctl.machine.quiet import quiet_libraries
from gridctl.models.family import Family
from gridctl.models.flops import Flops
from gridctl.profile import Profile, load_profile
from gridctl.progress import silent

PROMPT = "a red circle moves to the right on a white background"


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


@dataclass(frozen=True, kw_only=True)
class GpuJob:
    """One process: its work, profile and memory cap.

    `seconds` is its longest time on a Hopper card; a job with less time left is not started.
    `until` is a file: once it is there, the process is killed.
    """

    name: str
    kind: str
    profile: str
    overrides: Mapping[str, Any]
    work: Path
    results: Path
    cap_gib: float | None
    seconds: float
    until: str | None = None
    expandable: bool = True

    @property
    def lock(self) -> Path:
        return self.work / "timing.lock"

    def load(self) -> Profile:
        """The profile with the overrides."""
        return load_profile(self.profile, dict(self.overrides)).profile


def planned_gib(job: GpuJob) -> float:
    """GiB that the planner expects a training job to allocate at most."""
    from gridctl.models.base import open_base
    from gridctl.models.memory import training_memory

    profile = job.load()
    return round(training_memory(profile, open_base(profile).transformer_config).training, 2)


def where_it_was(job: GpuJob) -> str:
    """The innermost line of gridctl that a job was at when it got SIGUSR1."""
    path = _stack_file(job)
    if not path.exists():
        return "its start, before it could tell"
    lines = path.read_text(encoding="utf-8").splitlines()
    ours = [line.strip() for line in lines if "/gridctl/" in line]
    return ours[0] if ours else "an unknown line"


def _stack_file(job: GpuJob) -> Path:
    return job.work / f"{job.name.replace(' ', '-')}.stack"


def run_job(job: GpuJob) -> None:
    """The process: do the job and append its rows, an error's too."""
    faulthandler.register(signal.SIGUSR1, _stack_file(job).open("w"))
    os.environ["GRIDCTL_CACHE"] = str(job.work / "cache")
    started = time.monotonic()
    facts = {"job": job.name, "kind": job.kind, "cap_gib": job.cap_gib}
    try:
        quiet_libraries()
        if not job.expandable:  # gridctl leaves a setting of the user alone
            os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:False"
        grow_segments()
        cap_memory(job.cap_gib)
        row = KINDS[job.kind](job)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-4:]
        at = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(where))
        lines = str(error).strip().splitlines() or [""]
        row = {"error": f"{type(error).__name__}: {lines[0][:300]}", "at": at, **peak_memory()}
    append_row(job.results, {**facts, **row, "wall_seconds": round(time.monotonic() - started, 1)})


def encode(job: GpuJob) -> dict[str, Any]:
    """Fill the cache: grids through the VAE, captions through the text encoders."""
    from gridctl.train.cache import encode_grids, encode_prompts
    from gridctl.train.setup import set_up

    profile = job.load()
    setup = set_up(profile, progress=silent)
    samples = [sample for dataset in setup.datasets for sample in dataset.train]
    grids = setup.cache.grids({profile.grid.to_grid(): samples})
    prompts = setup.cache.prompts(setup.captions)
    batch, tokens = profile.memory.encode_batch, profile.model.text_tokens
    row: dict[str, Any] = {"grids": len(grids), "captions": len(prompts)}
    work: dict[str, Callable[[], None]] = {
        "vae": lambda: encode_grids(setup.base, grids, batch=batch, progress=silent),
        "text": lambda: encode_prompts(setup.base, prompts, text_tokens=tokens, progress=silent),
    }
    with exclusive(job.lock):
        for name, run in work.items():
            reset_peak()
            started = time.monotonic()
            run()
            row[f"{name}_seconds"] = round(time.monotonic() - started, 2)
            row |= {f"{name}_{key}": value for key, value in peak_memory().items()}
    return row


def train_steps(job: GpuJob) -> dict[str, Any]:
    """Train with the real command's code; memory and seconds a step."""
    from gridctl.train import train

    profile = job.load()
    timer = StepTimer(job.lock, "loss", steps=profile.train.checkpoint_every)
    phases = Phases()
    row: dict[str, Any] = {}

    def progress(done: int, total: int, text: str) -> None:
        phases("steps" if text.startswith("loss") else text)
        timer(done, total, text)
        if text.startswith("loss"):
            row["loss"] = text
            row["seconds_per_step"] = timer.median_seconds
            row.update(peak_memory(), steps_done=done)
            if job.until and done % profile.train.checkpoint_every == 0:
                facts = {"job": job.name, "kind": job.kind, "phases": phases.close()}
                append_row(job.results, {**facts, **row})

    result = train(profile, progress=progress)
    assert result.loss is not None
    row |= {"resumed_at": result.resumed_at, "steps": result.steps}
    if not math.isfinite(result.loss):
        row["error"] = f"the loss is {result.loss}"
    row["adapter_mib"] = round(result.adapter.stat().st_size / 2**20)
    return row | peak_memory() | allocator() | {"phases": phases.close()}


def generate_clip(job: GpuJob) -> dict[str, Any]:
    """Draw a clip with the adapter that `train_steps` wrote."""
    from gridctl.generate import Request, draw
    from gridctl.generate.tasks import t2v

    profile = job.load()
    steps = profile.generate.steps
    timer = StepTimer(job.lock, "sampling", steps=steps)
    output = job.work / f"{job.name.replace(' ', '-')}.gif"
    phases = Phases()
    sampled: dict[str, Any] = {}

    def progress(done: int, total: int, text: str) -> None:
        phases(text)
        timer(done, total, text)
        if text == "sampling" and done == steps:
            sampled.update({f"sampling_{k}": v for k, v in peak_memory().items()})
            sampled["resident_gib"] = allocated_gib()

    request = Request(prompts=(PROMPT,), output=output, profile=profile)
    draw(t2v(request), force=True, progress=progress)
    return {
        "seconds_per_step": timer.median_seconds,
        "decode_seconds": round(time.monotonic() - timer.times[-1], 2),
        **sampled,
        **peak_memory(),
        **allocator(),
        "clip_kib": round(output.stat().st_size / 1024),
        "phases": phases.close(),
    }


def speed(job: GpuJob) -> dict[str, Any]:
    """A row for each variant, appended as it is measured: seconds, memory, utilisation."""
    from gridctl.lora.adapters import add_lora
    from gridctl.models.base import open_base
    from gridctl.models.transformer import compile_blocks

    profile = job.load()
    base = open_base(profile)
    grid, rank = profile.grid.to_grid(), profile.train.rank
    transformer = base.load_transformer(training=True).train()
    parameters = add_lora(transformer, base.family.LORA_TARGETS, rank=rank, alpha=rank, seed=0)
    optimizer = make_optimizer(profile.memory.optimizer, parameters)
    tokens = profile.model.text_tokens or 512
    flops = Flops.of(base.transformer_config, image_tokens=grid.num_tokens, text_tokens=tokens)
    on_gpu = base.device.type == "cuda"
    with exclusive(job.lock):
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
            row |= _time_variant(job, base.family, transformer, step, variant)
            counted = flops.training if variant.grad else flops.forward
            row["tflops"] = round(counted / row["seconds"] / 1e12, 2)
            row["utilisation"] = round(counted / row["seconds"] / peak, 4)
        except (RuntimeError, GridctlError) as error:  # memory, or a kernel that is not there
            row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            optimizer.zero_grad()
        append_row(job.results, row)
    return {"variants": len(variants)}


def _time_variant(
    job: GpuJob, family: Family, transformer: Any, step: Callable[[], None], variant: Variant
) -> dict[str, Any]:
    from gridctl.models.transformer import attention_kernel, recompute_blocks

    recompute_blocks(transformer, family, variant.share)
    reset_peak()
    device = transformer.device
    with (
        exclusive(job.lock),
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


KINDS = {"encode": encode, "train": train_steps, "generate": generate_clip, "speed": speed}
