"""A batch: the grids of some slots of a step, with noise, sigmas and prompts.

Everything random in it is a pure function of (seed, step, slot), so neither a restart nor the
number of processes changes a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gridctl.diffusion.cells import cell_map, split_cells
from gridctl.diffusion.flow import add_noise, draw_sigmas
from gridctl.geometry import Grid
from gridctl.models.family import Family, Prompt
from gridctl.models.prompts import join_prompts, move_prompt
from gridctl.profile import KeepPattern
from gridctl.train.data import Sample
from gridctl.train.setup import Run

# Each slot has several streams of random numbers, so that a new use of chance changes no other.
_FRAME_STREAM, _KEEP_STREAM, _CAPTION_STREAM = 1, 2, 3

Slots = list[tuple[int, Sample]]
_T = TypeVar("_T")
_Row = tuple[Tensor, Tensor, Tensor, Prompt]  # clean, noise, sigma (1,), prompt of a slot


def slot_samples(samples: Sequence[Sample], *, seed: int, first: int, count: int) -> list[Sample]:
    """The samples of slots `first` to `first + count`, in a new random order each epoch.

    A pure function of its arguments, so that a resumed run gets the samples that it would have
    had.
    """
    chosen = []
    for slot in range(first, first + count):
        epoch, place = divmod(slot, len(samples))
        chosen.append(samples[_epoch_order(len(samples), seed, epoch)[place]])
    return chosen


@lru_cache(maxsize=4)  # a step lies in one epoch, rarely in two, so it does not shuffle again
def _epoch_order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    generator = torch.Generator().manual_seed(mix_seed(seed, epoch))
    order: npt.NDArray[np.int64] = torch.randperm(count, generator=generator).numpy()
    return order


def share(items: Sequence[_T], *, process: int, processes: int) -> list[tuple[int, _T]]:
    """The (slot, item) pairs of a step that one of several processes works on."""
    return list(enumerate(items))[process::processes]


def mix_seed(*parts: int) -> int:
    """One 64-bit seed from several numbers; neighbours give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Latents and noise (B, C, H, W), sigmas (B,) and B prompts.

    `kept` (B, F) marks the frames of `grid` that the model gets without noise; None for none.
    """

    family: Family
    grid: Grid
    clean: Tensor
    noise: Tensor
    sigma: Tensor
    prompt: Prompt
    kept: Tensor | None = None

    def predict(self, transformer: Any, *, autocast: bool) -> Tensor:
        """Predict the velocities, (B, C, H, W)."""
        noisy = add_noise(self.clean, self.noise, self.sigma[:, None, None, None])
        kept = None
        if self.kept is not None:
            kept = cell_map(self.kept, self.grid)
            noisy = torch.where(kept, self.clean, noisy)
        with torch.autocast(self.clean.device.type, torch.bfloat16, enabled=autocast):
            return self.family.predict(
                transformer,
                noisy,
                self.sigma,
                self.prompt,
                self.family.TRAINING_GUIDANCE,
                clean=kept,
            )

    def at(self, sigma: float) -> Batch:
        """A copy with every sample at `sigma`."""
        return replace(self, sigma=torch.full_like(self.sigma, sigma))


def draw_grids(
    run: Run, slots: Slots, step: int, *, grid: Grid, logit_mean: float, plain: bool = False
) -> Batch:
    """Draw whole grids with their captions; `plain` drops no caption and keeps no frame clean."""
    settings = run.profile.train
    rows: list[_Row] = []
    masks: list[Tensor] = []
    for slot, sample in slots:
        generator = _generator(run, step, slot)
        clean = run.cache.latents(sample, grid)
        noise, sigma = _draw_noise(run, grid, generator, mu=run.mu(grid), logit_mean=logit_mean)
        caption = sample.captions[_caption_index(run, step, slot, sample)]
        text = "" if _drops_caption(run, generator) and not plain else caption
        rows.append((clean, noise, sigma, run.cache.prompt(text)))
        if settings.keep and not plain:
            chance = _generator(run, step, slot, _KEEP_STREAM)
            masks.append(draw_kept(settings.keep, settings.keep_patterns, grid, chance))
    return _stack(run, rows, grid, kept=torch.stack(masks).to(run.device) if masks else None)


def draw_single_frames(
    run: Run, slots: Slots, step: int, *, grid: Grid, logit_mean: float
) -> Batch:
    """Draw a random frame of each grid, with its caption without the layout prompt."""
    single = Grid(rows=1, cols=1, cell=grid.cell)
    mu = run.mu(single, capped=False)
    rows: list[_Row] = []
    for slot, sample in slots:
        generator = _generator(run, step, slot, _FRAME_STREAM)
        frame = int(torch.randint(grid.num_frames, (), generator=generator))
        clean = split_cells(run.cache.latents(sample, grid), grid)[frame]
        noise, sigma = _draw_noise(run, single, generator, mu=mu, logit_mean=logit_mean)
        content = sample.contents[_caption_index(run, step, slot, sample)]
        text = "" if _drops_caption(run, generator) else content
        rows.append((clean, noise, sigma, run.cache.prompt(text)))
    return _stack(run, rows, single)


def _draw_noise(
    run: Run, grid: Grid, generator: torch.Generator, *, mu: float, logit_mean: float
) -> tuple[Tensor, Tensor]:
    """(noise, sigma) of a slot."""
    noise = run.setup.base.draw_noise(grid, generator)[0]
    std = run.profile.train.logit_std
    return noise, draw_sigmas(1, mu=mu, mean=logit_mean, std=std, generator=generator)


def _drops_caption(run: Run, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < run.profile.train.caption_dropout


def _stack(run: Run, rows: list[_Row], grid: Grid, *, kept: Tensor | None = None) -> Batch:
    clean, noise, sigma, prompts = zip(*rows, strict=True)
    return Batch(
        family=run.setup.base.family,
        grid=grid,
        clean=torch.stack(clean).to(run.device),
        noise=torch.stack(noise).to(run.device),
        sigma=torch.cat(sigma).to(run.device),
        prompt=move_prompt(join_prompts(prompts), run.device),
        kept=kept,
    )


def _caption_index(run: Run, step: int, slot: int, sample: Sample) -> int:
    """The index of the caption that a slot gets; all are equally likely."""
    if len(sample.captions) == 1:
        return 0
    generator = _generator(run, step, slot, _CAPTION_STREAM)
    return int(torch.randint(len(sample.captions), (), generator=generator))


def _generator(run: Run, step: int, slot: int, *stream: int) -> torch.Generator:
    seed = run.profile.train.seed
    return torch.Generator().manual_seed(mix_seed(seed, step, slot, *stream))


def draw_kept(
    probability: float, patterns: Sequence[KeepPattern], grid: Grid, generator: torch.Generator
) -> Tensor:
    """Choose the frames of a sample that stay clean, (F,) bool.

    An adapter that was trained with clean frames continues them when it samples. Putting known
    frames back at each sampling step is not enough for that (docs/lab/2026-11-26-clean-cells.md).

    With `probability` one of `patterns` is chosen, all equally likely; otherwise no frame is
    kept. At least one frame is always left to draw.
    """
    kept = torch.zeros(grid.num_frames, dtype=torch.bool)
    if grid.num_frames == 1 or float(torch.rand((), generator=generator)) >= probability:
        return kept
    pattern = patterns[_draw_int(0, len(patterns) - 1, generator)]
    kept[_pattern_frames(pattern, grid, generator)] = True
    if kept.all():
        kept[-1] = False
    return kept


def _pattern_frames(pattern: KeepPattern, grid: Grid, generator: torch.Generator) -> list[int]:
    count = grid.num_frames
    match pattern:
        case "first":
            return [0]
        case "last":
            return [count - 1]
        case "ends":
            return [0, count - 1]
        case "head":  # as when a clip is continued
            return list(range(_draw_int(2, max(2, count // 2), generator)))
        case "every":  # as key frames when a clip is interpolated
            return list(range(0, count, _draw_int(2, max(2, count // 2), generator)))
        case "column":
            col = _draw_int(0, grid.cols - 1, generator)
            return [grid.frame_at(row, col) for row in range(grid.rows)]
        case "few":
            size = _draw_int(1, max(1, count // 4), generator)
            return torch.randperm(count, generator=generator)[:size].tolist()


def _draw_int(low: int, high: int, generator: torch.Generator) -> int:
    """A random integer from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
