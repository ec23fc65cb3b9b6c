"""The pipeline: a base model with its adapter, loaded, and the one loop that draws clips with it.

Its parts are loaded one after the other. The text encoders are freed before the transformer is
loaded: FLUX.1's take 9.7 GB, and the transformer needs the memory. For prompts that come
later the transformer makes room if it has to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridctl.diffusion.cells import join_cells, split_cells
from gridctl.diffusion.sampler import (
    Sampling,
    edit_sigmas,
    flow_edit,
    plan_sigmas,
    sample,
)
from gridctl.generate.checks import DrawnGrid
from gridctl.generate.job import Job, Output
from gridctl.generate.steps import GridStep
from gridctl.geometry import Grid
from gridctl.lora.adapters import apply_adapter, read_adapter_metadata
from gridctl.media.images import Frames
from gridctl.models.base import BaseModel, FrameCoder
from gridctl.models.family import Prompt
from gridctl.models.memory import encoding_gib
from gridctl.models.prompts import encode_prompts, make_room
from gridctl.models.transformer import Denoiser, cache_first_block, compile_blocks
from gridctl.profile import Profile

OnStep = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A loaded model that draws grids.

    `prompts` are those that are encoded, in main memory. `profile` decided what was loaded; each
    job has its own [generate].
    """

    base: BaseModel
    transformer: Any
    vae: FrameCoder
    prompts: dict[str, Prompt]
    profile: Profile
    adapter_warnings: tuple[str, ...] = ()

    def replace_prompts(self, prompts: Iterable[str]) -> None:
        """Encode these prompts and forget all others, since a stream may send any number."""
        texts = dict.fromkeys([*prompts, ""])
        known = {text: self.prompts[text] for text in texts if text in self.prompts}
        new = encode_prompts(
            self.base,
            [text for text in texts if text not in known],
            text_tokens=self.profile.model.text_tokens,
            # The planner's figure is up to 9 % below what was measured.
            room=make_room(1.1 * encoding_gib(self.profile), self.transformer),
        )
        self.prompts.clear()
        self.prompts.update(known | new)

    def warnings(self, job: Job) -> tuple[str, ...]:
        """What the model does not read of a job's prompts and settings, or of its adapter."""
        found = list(self.adapter_warnings)
        limit = self.base.text_limits(self.profile.model.text_tokens).whole
        for prompt in job.prompts:
            if unread := limit.unread(prompt):
                found.append(f"the prompt is cut after {limit.tokens} tokens; not read: {unread}")
        guidance = job.profile.generate.guidance
        if guidance and not self.base.takes_guidance:
            found.append(
                f"{self.base.name} reads no guidance scale, so guidance {guidance:g} changes "
                "nothing."
            )
        return tuple(found)

    def sample(
        self, job: Job, step: GridStep, output: Output, cells: Frames, on_step: OnStep
    ) -> Frames:
        """Draw a grid: its frames (F, H, W, 3), in order.

        `cells` (F, H, W, 3) holds the frames that the plan keeps or starts from.
        """
        plan = step.plan
        sampling = _sampling(self.base, job, plan.grid)
        steady = sampling.stochastic_min_sigma == 1
        cache_first_block(self.transformer, on=job.profile.generate.fast and steady)
        latents = sample(
            self._denoiser(job, output.prompt),
            plan,
            self.base.noise_source(plan.grid, output.seed),
            sampling,
            reference=self.encode(cells, plan.grid) if plan.needs_reference else None,
            on_step=lambda *_: on_step(),
        )
        return self.decode(latents, plan.grid)

    def edit(
        self,
        job: Job,
        step: GridStep,
        output: Output,
        source: Frames,
        cells: Frames,
        on_step: OnStep,
    ) -> Frames:
        """Change a grid's frames (F, H, W, 3) from what the step's source prompt says.

        `source` (F, H, W, 3) holds the frames before the edit, and `cells` those that the plan
        keeps because they are edited already.
        """
        cache_first_block(self.transformer, on=False)  # each step of an edit draws fresh noise
        grid, kept, settings = step.plan.grid, step.plan.kept, job.profile.generate
        latents = self.encode(source, grid)
        fixed = None
        if kept:
            parts = torch.full_like(split_cells(latents, grid), torch.nan)
            known = self.vae.encode(cells[list(kept)], batch=self.profile.memory.encode_batch)
            parts[:, list(kept)] = known.to(parts)
            fixed = join_cells(parts, grid)
        assert step.source_prompt is not None
        edited = flow_edit(
            latents,
            self.base.noise_source(grid, output.seed),
            _sampling(self.base, job, grid).sigmas,
            source=_guided(self._denoiser(job, step.source_prompt), settings.edit_source_guidance),
            target=_guided(self._denoiser(job, output.prompt), settings.edit_guidance),
            strength=max(step.plan.release),
            fixed=fixed,
            on_step=lambda *_: on_step(),
        )
        return self.decode(edited, grid)

    def _denoiser(self, job: Job, prompt: str) -> Denoiser:
        """The model with one of its prompts and a job's guidance."""
        return Denoiser.of(
            self.base, self.transformer, job.profile, self.prompts[prompt], self.prompts[""]
        )

    def encode(self, frames: Frames, grid: Grid) -> Tensor:
        """Frames (F, H, W, 3) → the grid's latents (1, C, H, W), encoded as in training."""
        latents = self.vae.encode(frames, batch=self.profile.memory.encode_batch)
        return join_cells(latents, grid)[None].to(self.base.device)

    def decode(self, latents: Tensor, grid: Grid) -> Frames:
        """A grid's latents (1, C, H, W) → its frames (F, H, W, 3)."""
        cells = split_cells(latents, grid)[0]
        return self.vae.decode(cells, batch=self.profile.memory.decode_batch)


def draw_clip(
    pipeline: Pipeline, job: Job, output: Output, *, on_step: OnStep
) -> tuple[Frames, list[DrawnGrid]]:
    """Draw all grids of an output: the clip's frames (F, H, W, 3), and each grid as it was drawn.

    Each grid takes its cells from the clip so far and puts its frames back. Kept frames stay as
    they are, to the last bit. `on_step` is called after each sampling step.
    """
    width, height = job.grid.cell
    count = max([job.num_frames, *(max(step.frames) + 1 for step in job.steps)])
    clip = np.zeros((count, height, width, 3), np.uint8)
    for frame, picture in job.references.items():
        clip[frame] = picture
    grids = []
    for step in job.steps:
        frames, kept = list(step.frames), list(step.plan.kept)
        cells, reference = clip[frames], None
        if step.source_prompt is None:
            reference = cells if step.plan.needs_reference else None
            drawn = pipeline.sample(job, step, output, cells, on_step)
        else:
            source = np.stack([job.references[frame] for frame in frames])
            drawn = pipeline.edit(job, step, output, source, cells, on_step)
        drawn[kept] = cells[kept]
        clip[frames] = drawn
        grids.append(DrawnGrid(plan=step.plan, frames=drawn, reference=reference))
    return clip[: job.num_frames], grids


def _sampling(base: BaseModel, job: Job, grid: Grid) -> Sampling:
    return base.sampling(job.profile.generate, grid, keep_clean=job.keep_clean)


def num_sampling_steps(base: BaseModel, job: Job) -> int:
    """How often the sampler will call `on_step` for all outputs and seeds of a job."""
    count = 0
    for step in job.steps:
        sampling = _sampling(base, job, step.plan.grid)
        if step.source_prompt is None:
            count += (len(plan_sigmas(step.plan, sampling.sigmas)) - 1) * sampling.resample
        else:
            count += len(edit_sigmas(max(step.plan.release), sampling.sigmas)) - 1
    return count * len(job.outputs) * job.best_of


def _guided(denoiser: Denoiser, scale: float) -> Denoiser:
    """The model with another scale of the guidance that it uses, at every noise level."""
    if denoiser.true_cfg_scale == 1:
        return replace(denoiser, guidance=scale)
    return replace(denoiser, true_cfg_scale=scale, true_cfg_max_sigma=1.0)


@contextmanager
def load_pipeline(
    base: BaseModel, profile: Profile, adapter: Path | None, prompts: Iterable[str]
) -> Iterator[Pipeline]:
    """Encode prompts, then load what draws."""
    encoded = encode_prompts(base, [*prompts, ""], text_tokens=profile.model.text_tokens)
    transformer = base.load_transformer()
    warnings = []
    if adapter:
        applied = apply_adapter(
            transformer,
            adapter,
            scale=profile.model.adapter_scale,
            fused=not base.is_offloaded,
        )
        if applied.unused or read_adapter_metadata(adapter) is None:
            warnings.append(f"{adapter}: {applied}")
    if profile.generate.compile:
        compile_blocks(transformer, "generate.compile")
    with base.vae() as vae:
        yield Pipeline(
            base=base,
            transformer=transformer,
            vae=vae,
            prompts=encoded,
            profile=profile,
            adapter_warnings=tuple(warnings),
        )
