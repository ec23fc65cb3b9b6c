"""`gridctl bench memory`: GPU memory of training, planned, and measured on a GPU."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from gridctl.bench.gpu.meter import peak_memory, reset_peak
from gridctl.bench.harness import Report, Table
from gridctl.bench.random_base import bare_step, make_base, make_optimizer, random_inputs
from gridctl.bench.sizes import MemorySizes
from gridctl.models.base import BaseModel, open_base
from gridctl.models.flux1 import TRANSFORMER_CONFIG
from gridctl.models.memory import fits, training_memory
from gridctl.profile import Profile, load_profile
from gridctl.progress import Progress, silent


def bench_memory(sizes: MemorySizes | None = None, *, progress: Progress | None = None) -> Report:
    """Plan a training step of FLUX.1-dev for every combination, and measure it on a GPU.

    A measurement takes a base with random weights, so nothing is downloaded.
    """
    import torch

    sizes, progress = sizes or MemorySizes(), progress or silent
    has_gpu = torch.cuda.is_available()
    rows = []
    with TemporaryDirectory(prefix="gridctl-bench-", dir=_ram_disk() if has_gpu else None) as name:
        base = make_base(Path(name), "full", device="cuda") if has_gpu else None
        sweep = list(product(sizes.presets, sizes.grids, sizes.batches, sizes.ranks))
        for done, (preset, grid, batch, rank) in enumerate(sweep):
            progress(done, len(sweep), f"{preset}, {grid[0]}x{grid[1]}, batch {batch}, rank {rank}")
            profile = _profile(preset, grid, batch, rank, base)
            plan = training_memory(profile, TRANSFORMER_CONFIG)
            card = int(preset.removesuffix("gb"))
            parts = (plan.base, plan.lora + plan.optimizer + plan.ema, plan.activations)
            planned = (*parts, plan.encoding, plan.peak)
            rows.append(
                (preset, f"{grid[0]}x{grid[1]}", batch, rank, *(round(g, 2) for g in planned),
                 "yes" if fits(plan, card) else "no", measure(profile) if base else None)
            )  # fmt: skip
        progress(len(sweep), len(sweep), "")
    return Report(
        bench="memory",
        about="GiB of GPU memory to train FLUX.1-dev, cells of 256x256, one forward pass a step",
        tables=(
            Table(
                title="training, in GiB",
                columns=("preset", "grid", "batch", "rank", "base", "LoRA", "activations",
                         "encoding", "planned peak", "fits", "measured training"),
                rows=tuple(rows),
                bar="planned peak",
                labels=4,
            ),
        ),
        notes=() if has_gpu else ("there is no GPU, so peaks are planned and not measured.",),
    )  # fmt: skip


def _profile(
    preset: str, grid: tuple[int, int], batch: int, rank: int, base: Path | None
) -> Profile:
    rows, cols = grid
    values = {
        "grid.rows": rows,
        "grid.cols": cols,
        "train.batch_size": batch,
        "train.accumulate": 1,
        "train.rank": rank,
        "model.base": str(base) if base else None,
    }
    return load_profile(f"flux-dev-{preset}", values).profile


def measure(profile: Profile) -> float | str | None:
    """GiB that two training steps of the profile's base allocate at most; None without a GPU.

    A base that does not fit gives the text "out of memory".
    """
    import torch

    reset_peak()
    try:
        _take_steps(profile, open_base(profile))
        return peak_memory()["allocated_gib"]
    except torch.OutOfMemoryError:
        return "out of memory"
    finally:
        reset_peak()


def _take_steps(profile: Profile, base: BaseModel) -> None:
    from gridctl.lora.adapters import add_lora
    from gridctl.models.transformer import attention_kernel, recompute_blocks

    memory, settings = profile.memory, profile.train
    transformer = base.load_transformer(training=True).train()
    if memory.gradient_checkpointing:
        recompute_blocks(
            transformer, base.family, memory.checkpointed_share, offload=memory.offload_activations
        )
    parameters = add_lora(
        transformer, base.family.LORA_TARGETS, rank=settings.rank, alpha=settings.rank, seed=0
    )
    optimizer = make_optimizer(memory.optimizer, parameters)
    average = [p.detach().clone() for p in parameters] if settings.ema else []
    tokens = profile.model.text_tokens or 512
    inputs = random_inputs(base, profile.grid.to_grid(), tokens, settings.batch_size)
    with attention_kernel(profile.model.attention, training=True):
        for _ in range(2):  # the optimizer's state comes with the first
            bare_step(transformer, parameters, optimizer, inputs, grad=True)
    del average


def _ram_disk() -> Path | None:
    folder = Path("/dev/shm")
    return folder if folder.is_dir() else None
