"""`gridctl bench generate`: generating compared with diffusers' pipeline and with video models."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from einops import rearrange

from gridctl.bench.harness import (
    Candidate,
    Compare,
    Comparison,
    Report,
    Table,
    compare,
    own_cache,
    run_command,
    run_python,
)
from gridctl.bench.random_base import wait
from gridctl.bench.sizes import GenerateSizes
from gridctl.bench.video_models import count_arithmetic, time_parts
from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import schedule
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import Sampling, sample
from gridctl.errors import GridctlError
from gridctl.files import write_text
from gridctl.generate import Job, Request, draw
from gridctl.generate.tasks import t2v
from gridctl.lora.adapters import apply_adapter
from gridctl.models.base import BaseModel, open_base
from gridctl.models.prompts import encode_prompts, move_prompt
from gridctl.models.transformer import Denoiser
from gridctl.profile import Profile, profile_toml
from gridctl.progress import Progress, silent

PROMPTS = (
    "a red circle moves to the right on a white background",
    "a blue square moves up on a black background",
)
_IMPORTS = "import torch; from diffusers import FluxPipeline"


def bench_generate(
    profile: Profile,
    sizes: GenerateSizes | None = None,
    *,
    against: Sequence[str] = (),
    repeats: int = 5,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Report:
    """Compare generating with the profile's base to diffusers, and to the models of `against`.

    The sampler draws with the same transformer, prompt, noise, steps and schedule as
    FluxPipeline, without what FluxPipeline does not have (stochastic steps). `note` gets a line
    for each clip of `against` as it is measured.

    Raises GridctlError if the two draw different images.
    """
    sizes, progress = sizes or GenerateSizes(), progress or silent
    steps = sizes.steps or profile.generate.steps
    profile = profile.with_values({"generate.steps": steps, "generate.fast": False})
    progress(0, 1, "loading the base")
    base = open_base(profile)
    measure = partial(compare, repeats=repeats, progress=progress)
    with TemporaryDirectory(prefix="gridctl-bench-") as name, own_cache(Path(name) / "cache"):
        sampler, difference = _compare_sampler(profile, base, measure)
        comparisons = (
            sampler,
            _compare_second(profile, Path(name), measure),
            _compare_start(profile, Path(name), measure),
        )
    tables: tuple[Table, ...] = (difference,)
    if against:
        tables += (
            count_arithmetic(against, note),
            time_parts(against, base.device, repeats=repeats, note=note),
        )
    return Report(
        bench="generate",
        about=f"base {profile.model.base} on {base.device.type}, {profile.grid.to_grid()}, "
        f"{steps} steps, {str(base.dtype).removeprefix('torch.')}",
        comparisons=comparisons,
        tables=tables,
    )


def _compare_sampler(
    profile: Profile, base: BaseModel, measure: Compare
) -> tuple[Comparison, Table]:
    """Our sampler and FluxPipeline, and how much their images differ."""
    grid, settings = profile.grid.to_grid(), profile.generate
    known = encode_prompts(base, PROMPTS[:1], text_tokens=profile.model.text_tokens)
    encoded = move_prompt(known[PROMPTS[0]], base.device)
    transformer = base.load_transformer()
    noise = base.draw_noise(grid, torch.Generator().manual_seed(0)).to(base.device)
    sampling = Sampling(
        sigmas=tuple(schedule(settings.steps, base.mu(grid.num_tokens, steps=settings.steps)))
    )
    denoiser = Denoiser(
        family=base.family,
        transformer=transformer,
        prompt=encoded,
        empty=encoded,
        guidance=settings.guidance,
        attention=profile.model.attention,
    )
    latents = {}

    def ours() -> None:
        latents["ours"] = sample(denoiser, Plan.generate(grid), lambda: noise, sampling)
        wait(base.device)

    with base.vae() as vae:
        pipeline = _pipeline(base, transformer, vae.vae)

        def theirs() -> None:
            latents["theirs"] = _draw(pipeline, grid.image_size, encoded, noise, settings)
            wait(base.device)

        candidates = [
            Candidate(name="gridctl's sampler", work=ours),
            Candidate(name="diffusers' FluxPipeline", work=theirs, target=1.03),
        ]
        comparison = measure("latents of a clip", candidates, warmups=1)
        images = [
            vae.decode(split_cells(one, grid)[0], batch=profile.memory.decode_batch)
            for one in (latents["ours"], latents["theirs"])
        ]
    apart = abs(images[0].astype(int) - images[1])
    # In bfloat16 the pipeline rounds its latents after each step, and gridctl does not.
    if base.dtype == torch.float32 and apart.max() > 1:
        raise GridctlError(
            f"gridctl and diffusers draw different images: up to {apart.max()} of 255 apart."
        )
    values = (int(apart.max()), round(float(apart.mean()), 5))
    return comparison, Table(
        title="the two clips, in 8-bit levels",
        columns=("largest difference", "mean"),
        rows=(values,),
    )


def _pipeline(base: BaseModel, transformer: Any, vae: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _draw(pipeline: Any, size: tuple[int, int], encoded: Any, noise: Any, settings: Any) -> Any:
    """The pipeline's latents (1, C, H, W) from this noise; `size` is (width, height) in pixels."""
    width, height = size
    tokens = pipeline(
        prompt_embeds=encoded["embeds"],
        pooled_prompt_embeds=encoded["pooled"],
        width=width,
        height=height,
        num_inference_steps=settings.steps,
        sigmas=np.linspace(1.0, 1 / settings.steps, settings.steps),
        guidance_scale=settings.guidance,
        latents=rearrange(noise, "b c h w -> b (h w) c"),
        output_type="latent",
    ).images
    return rearrange(tokens.to(noise.dtype), "b (h w) c -> b c h w", w=width // 16)


def _compare_second(profile: Profile, folder: Path, measure: Compare) -> Comparison:
    """A further clip of a running call, and sampling and decoding alone."""
    numbers, per_clip = count(), profile.generate.steps * profile.generate.resample
    request = Request(prompts=PROMPTS, output=folder, profile=profile, many=True)
    job = t2v(request)

    def ours() -> float:
        sampled: list[float] = []

        def watch(done: int, total: int, text: str) -> None:
            if done in (per_clip, total):
                sampled.append(time.perf_counter())

        output = folder / f"clips-{next(numbers)}"
        result = draw(t2v(replace(request, output=output)), progress=watch)
        if len(result.written) != len(PROMPTS):
            raise GridctlError("the call did not draw both clips.")
        return sampled[1] - sampled[0]

    with _bare_sampler(profile, job) as alone:
        candidates = [
            Candidate(name="the second clip of gridctl generate", work=ours),
            Candidate(name="sampling and decoding alone", work=alone, target=1.05),
        ]
        return measure("a further prompt", candidates, warmups=1)


@contextmanager
def _bare_sampler(profile: Profile, job: Job) -> Iterator[Callable[[], None]]:
    """A call that samples and decodes the job's second clip, with everything loaded."""
    base, plan = open_base(profile), job.steps[0].plan
    prompt = job.outputs[1].prompt
    encoded = encode_prompts(base, [prompt, ""], text_tokens=profile.model.text_tokens)
    transformer = base.load_transformer()
    if job.adapter:
        apply_adapter(transformer, job.adapter, scale=profile.model.adapter_scale)
    sampling = base.sampling(profile.generate, plan.grid)
    denoiser = Denoiser.of(base, transformer, profile, encoded[prompt], encoded[""])
    with base.vae() as vae:

        def work() -> None:
            latents = sample(denoiser, plan, base.noise_source(plan.grid, 1), sampling)
            cells = split_cells(latents, plan.grid)[0]
            vae.decode(cells, batch=profile.memory.decode_batch)

        yield work


def _compare_start(profile: Profile, folder: Path, measure: Compare) -> Comparison:
    """Whole processes: a first clip, and the imports that any such script has."""
    file = folder / "profile.toml"
    write_text(file, profile_toml(profile))
    command = [sys.executable, "-m", "gridctl", "generate", "t2v", PROMPTS[0], "--force", "--quiet"]
    command += ["--profile", str(file), "-o", str(folder / "first.mp4")]
    candidates = [
        Candidate(name="gridctl generate t2v", work=partial(run_command, command)),
        Candidate(
            name="import torch and diffusers", work=partial(run_python, _IMPORTS), target=2.2
        ),
    ]
    return measure("from the start to the first clip", candidates)
