"""The studio: a base model with its adapter, loaded to draw grids.

Its parts are loaded one after the other. The text encoders are freed before the transformer is
loaded: FLUX.1's T5 takes 9.5 GB, and the transformer needs the memory. For prompts that come
later the transformer makes room if it has to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridctl.diffusion.cells import join_cells, split_cells
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import (
    Denoiser,
    Sampling,
    cache_first_block,
    flow_edit,
    sample,
)
from gridctl.generate.checks import DrawnGrid
from gridctl.geometry import Grid
from gridctl.lora.adapters import apply_adapter, read_adapter_metadata
from gridctl.media.images import Frames, Picture
from gridctl.models.base import BaseModel, compile_blocks, open_base
from gridctl.models.latents import Conditioning, decode_frames, encode_frames
from gridctl.models.memory import encoding_gib
from gridctl.models.prompts import encode_prompts, make_room
from gridctl.models.text import Tokenizers
from gridctl.profile import Profile


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A loaded model; `prompts` are those that are encoded, in main memory.

    `on_step` is called after each sampling step, `on_grid` with each grid that was drawn.
    `notes` are remarks on the prompts.
    """

    base: BaseModel
    transformer: Any
    vae: Any
    tokenizers: Tokenizers
    prompts: dict[str, Conditioning]
    profile: Profile
    sampling: Sampling
    on_step: Callable[[], None]
    on_grid: Callable[[DrawnGrid], None]
    notes: tuple[str, ...] = ()

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

    def set_up(
        self,
        profile: Profile,
        prompts: Iterable[str],
        *,
        num_tokens: int,
        keep_clean: bool,
    ) -> Studio:
        """The same model with a profile's [generate], for grids of `num_tokens` and `prompts`."""
        notes = [
            f"the prompt is cut after {self.tokenizers.text_tokens} tokens; not read: {lost}"
            for text in dict.fromkeys(prompts)
            if (lost := self.tokenizers.lost_words(text))
        ]
        guidance = profile.generate.guidance
        if self.base.is_distilled and guidance:
            notes.append(
                f"{self.base.name} reads no guidance scale, so guidance {guidance:g} changes "
                "nothing."
            )
        sampling = Sampling.from_profile(profile.generate, self.base.scheduler_config, num_tokens)
        steady = profile.generate.stochastic_min_sigma == 1
        cache_first_block(self.transformer, on=profile.generate.fast and steady)
        return replace(
            self,
            profile=profile,
            sampling=replace(sampling, keep_clean=keep_clean, attention=profile.model.attention),
            notes=tuple(dict.fromkeys([*self.notes, *notes])),
        )

    def draw(
        self, plan: Plan, prompt: str, seed: int, *, reference: Frames | None = None
    ) -> Frames:
        """Draw a grid: its frames (F, H, W, 3), in order.

        `reference` (F, H, W, 3) holds the frames that the plan keeps or starts from. Kept
        frames come back unchanged.
        """
        latents = sample(
            self.denoiser(prompt),
            plan,
            self.base.noise_source(plan.grid, seed),
            reference=None if reference is None else self.encode(reference, plan.grid),
            on_step=lambda *_: self.on_step(),
        )
        frames = self.decode(latents, plan.grid)
        if reference is not None:
            kept = list(plan.kept)
            frames[kept] = reference[kept]
        self.on_grid(DrawnGrid(plan=plan, frames=frames, reference=reference))
        return frames

    def edit(
        self,
        frames: Frames,
        grid: Grid,
        texts: tuple[str, str],
        seed: int,
        *,
        finished: Mapping[int, Picture] | None = None,
    ) -> Frames:
        """Change a grid's frames (F, H, W, 3) from what the first prompt says to the second.

        `finished` are edited frames, by number, that are known already. They stay.
        """
        cache_first_block(self.transformer, on=False)  # each step of an edit draws fresh noise
        finished = finished or {}
        source = self.encode(frames, grid)
        fixed = None
        if finished:
            cells = torch.full_like(split_cells(source, grid), torch.nan)
            known = np.stack(list(finished.values()))
            cells[:, list(finished)] = encode_frames(
                self.vae, known, batch=self.profile.memory.encode_batch
            ).to(cells)
            fixed = join_cells(cells, grid)
        settings = self.profile.generate
        latents = flow_edit(
            source,
            self.base.noise_source(grid, seed),
            source=self._guided(texts[0], settings.edit_source_guidance),
            target=self._guided(texts[1], settings.edit_guidance),
            strength=settings.edit_strength,
            fixed=fixed,
            on_step=lambda *_: self.on_step(),
        )
        edited = self.decode(latents, grid)
        for frame, picture in finished.items():
            edited[frame] = picture
        self.on_grid(DrawnGrid(plan=Plan.keep(grid, finished), frames=edited))
        return edited

    def _guided(self, prompt: str, scale: float) -> Denoiser:
        """The model with a prompt, at another scale of the guidance that it uses."""
        sampling = self.sampling
        if sampling.true_cfg_scale == 1:
            return self.denoiser(prompt, replace(sampling, guidance=scale))
        return self.denoiser(
            prompt, replace(sampling, true_cfg_scale=scale, true_cfg_max_sigma=1.0)
        )

    def denoiser(self, prompt: str, sampling: Sampling | None = None) -> Denoiser:
        """The model with one of its prompts."""
        return Denoiser(
            transformer=self.transformer,
            prompt=self.prompts[prompt].to(self.base.device),
            empty=self.prompts[""].to(self.base.device),
            sampling=sampling or self.sampling,
        )

    def encode(self, frames: Frames, grid: Grid) -> Tensor:
        """Frames (F, H, W, 3) → the grid's latents (1, C, H, W), encoded as in training."""
        latents = encode_frames(self.vae, frames, batch=self.profile.memory.encode_batch)
        return join_cells(latents, grid)[None].to(self.base.device)

    def decode(self, latents: Tensor, grid: Grid) -> Frames:
        """A grid's latents (1, C, H, W) → its frames (F, H, W, 3)."""
        cells = split_cells(latents, grid)[0]
        return decode_frames(self.vae, cells, batch=self.profile.memory.decode_batch)


@contextmanager
def open_studio(
    profile: Profile,
    adapter: Path | None,
    prompts: Iterable[str],
    *,
    on_step: Callable[[], None],
    on_grid: Callable[[DrawnGrid], None],
) -> Iterator[Studio]:
    """Encode prompts, then load what draws. `Studio.set_up` chooses settings and prompts."""
    base = open_base(profile)
    encoded = encode_prompts(base, [*prompts, ""], text_tokens=profile.model.text_tokens)
    transformer = base.load_transformer()
    notes = []
    if adapter:
        applied = apply_adapter(
            transformer,
            adapter,
            scale=profile.model.adapter_scale,
            fused=not base.is_offloaded,
        )
        if applied.unused or read_adapter_metadata(adapter) is None:
            notes.append(f"{adapter}: {applied}")
    if profile.generate.compile:
        compile_blocks(transformer, "generate.compile")
    with base.vae() as vae:
        yield Studio(
            base=base,
            transformer=transformer,
            vae=vae,
            tokenizers=base.tokenizers(profile.model.text_tokens),
            prompts=encoded,
            profile=profile,
            sampling=Sampling(sigmas=()),
            on_step=on_step,
            on_grid=on_grid,
            notes=tuple(notes),
        )
