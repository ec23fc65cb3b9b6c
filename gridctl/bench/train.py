"""`gridctl bench train`: a step, a start and a cache, compared with the bare model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gridctl.bench.harness import (
    Candidate,
    Compare,
    Comparison,
    Report,
    compare,
    own_cache,
    run_python,
)
from gridctl.bench.random_base import bare_step, make_grids, random_inputs, wait
from gridctl.bench.sizes import TrainSizes
from gridctl.errors import GridctlError
from gridctl.files import write_text
from gridctl.models.base import BaseModel, open_base
from gridctl.models.transformer import attention_kernel
from gridctl.profile import Profile, profile_toml
from gridctl.progress import Progress, silent
from gridctl.train.cache import encode_grids
from gridctl.train.setup import Run, fill_cache, load_run, make_accelerator, set_up
from gridctl.train.step import take_step

# A run up to its first step; the process ends with it.
_FIRST_STEP = """
import os, sys
import gridctl.cli.app
from pathlib import Path
from gridctl.profile import load_profile
from gridctl.train import train

begun = False

def progress(done, total, text):
    global begun
    if begun and done == 1:
        os._exit(0)
    begun = begun or text == "first step"

train(load_profile(Path(sys.argv[1])).profile, progress=progress)
sys.exit("no step was taken")
"""
_LIBRARIES = """
import sys
import accelerate, peft, torch
from diffusers import FluxTransformer2DModel

dtype = getattr(torch, sys.argv[2])
transformer = FluxTransformer2DModel.from_pretrained(
    sys.argv[1], torch_dtype=dtype, use_safetensors=True
)
transformer.to(sys.argv[3])
"""


def bench_train(
    profile: Profile,
    sizes: TrainSizes | None = None,
    *,
    repeats: int = 5,
    progress: Progress | None = None,
) -> Report:
    """Compare training with the profile's base to the bare libraries, on random captioned grids.

    The step is of the flow-matching and temporal losses: settings that add forward passes
    (`preserve_weight`) or work after the step (`ema`) are off.
    """
    sizes, progress = sizes or TrainSizes(), progress or silent
    with TemporaryDirectory(prefix="gridctl-bench-") as name, own_cache(Path(name) / "cache"):
        folder = Path(name)
        grid = profile.grid.to_grid()
        progress(0, 1, "making grids")
        profile = _prepare(profile, sizes, folder)
        make_grids(folder / "few", grid, count=profile.train.batch_size)
        make_grids(folder / "many", grid, count=sizes.grids)
        progress(0, 1, "loading the base")
        measure = partial(compare, repeats=repeats, progress=progress)
        cached = partial(compare, repeats=sizes.cache_rounds, progress=progress)
        comparisons = (
            _compare_step(_load_run(profile), measure),
            _compare_start(profile, folder, measure),
            _compare_cache(profile, folder, cached),
        )
    device = open_base(profile).device.type
    return Report(
        bench="train",
        about=f"base {profile.model.base} on {device}, {profile.train.batch_size} grids of {grid} "
        f"a step, rank {profile.train.rank}; {sizes.grids} grids are encoded",
        comparisons=comparisons,
    )


def _prepare(profile: Profile, sizes: TrainSizes, folder: Path) -> Profile:
    settings = replace(
        profile.train,
        data=folder / "few",
        output=folder / "adapter.safetensors",
        start=None,
        stages=(),
        steps=1000,
        batch_size=sizes.batch or profile.train.batch_size,
        accumulate=1,
        preserve_weight=0.0,
        ema=0.0,
        keep=0.0,
        preview_every=None,
        trackers=(),
    )
    return replace(profile, train=settings)


def _load_run(profile: Profile) -> Run:
    accelerator = make_accelerator(profile)
    setup = set_up(profile, progress=silent)
    fill_cache(setup, progress=silent)
    return load_run(setup, accelerator, progress=silent)


def _compare_step(run: Run, measure: Compare) -> Comparison:
    profile, base = run.profile, run.setup.base
    inputs = random_inputs(
        base, profile.grid.to_grid(), base.text_limits(profile.model.text_tokens).whole.tokens,
        profile.train.batch_size,
    )  # fmt: skip
    numbers = count()

    def ours() -> None:
        taken = take_step(run, next(numbers))
        wait(run.device)
        if not taken.losses.isfinite().all():
            raise GridctlError(f"the losses of a step are {taken.losses.tolist()}.")

    def bare() -> None:
        bare_step(
            run.transformer, run.parameters, run.optimizer, inputs, grad=True, autocast=run.autocast
        )
        wait(run.device)

    candidates = [
        Candidate(name="gridctl train", work=ours),
        Candidate(name="bare forward, backward, optimizer", work=bare, target=1.05),
    ]
    with attention_kernel(profile.model.attention, training=True):
        return measure("a training step", candidates, warmups=1)


def _compare_cache(profile: Profile, folder: Path, measure: Compare) -> Comparison:
    many = profile.with_values({"train.data": folder / "many"})
    setup = set_up(many, progress=silent)
    batch, grid = setup.profile.memory.encode_batch, setup.stages[-1].grid
    samples = [sample for dataset in setup.datasets for sample in dataset.train]
    rounds = count()

    def ours() -> None:
        cache = replace(setup.cache, folder=folder / f"cache-{next(rounds)}")
        grids = cache.grids({grid: samples})
        encode_grids(setup.base, grids, batch=batch, progress=silent)
        if not all(path.exists() for path in grids):
            raise GridctlError("grids are missing in the cache after it was filled.")

    frames = len(samples) * grid.num_frames
    candidates = [
        Candidate(name="gridctl train fills its cache", work=ours),
        Candidate(
            name="the VAE alone",
            work=partial(_encode, setup.base, frames, batch, grid.cell),
            target=1.15,
        ),
    ]
    return measure(f"latents of {len(samples)} grids", candidates)


def _encode(base: BaseModel, frames: int, batch: int, cell: tuple[int, int]) -> None:
    """Load the VAE and encode that many random frames, `batch` at once, of (width, height)."""
    width, height = cell
    # In memory as frames are: channels last, which convolutions on a CPU are faster with.
    pixels: Any = torch.rand(batch, height, width, 3, device=base.device).permute(0, 3, 1, 2)
    with base.vae() as vae, torch.inference_mode():
        for first in range(0, frames, batch):
            vae.vae.encode(pixels[: frames - first] * 2 - 1).latent_dist.mode().cpu()


def _compare_start(profile: Profile, folder: Path, measure: Compare) -> Comparison:
    """Whole processes: until the first step of a run with a full cache, and the imports alone."""
    file = folder / "profile.toml"
    write_text(file, profile_toml(profile))
    base = open_base(profile)
    loading = [str(base.folder / "transformer"), str(base.dtype).removeprefix("torch.")]
    candidates = [
        Candidate(
            name="gridctl train, until its first step",
            work=partial(run_python, _FIRST_STEP, str(file)),
        ),
        Candidate(
            name="import the libraries, load the base",
            work=partial(run_python, _LIBRARIES, *loading, base.device.type),
            target=1.5,
        ),
    ]
    return measure("from the start to the first step", candidates)
