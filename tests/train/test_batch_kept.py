from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import draw_sigmas
from gridctl.geometry import Grid
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.models.flux1 import predict
from gridctl.profile import KeepPattern
from gridctl.train.batch import draw_grids, draw_kept, mix_seed, slot_samples
from gridctl.train.step import flow_losses, take_step

GRID = Grid(rows=2, cols=3, cell=(32, 16))


def frames(pattern: KeepPattern, seed: int, *, grid: Grid = GRID) -> list[int]:
    kept = draw_kept(1.0, [pattern], grid, torch.Generator().manual_seed(seed))
    return [int(k) for k in kept.nonzero()[:, 0]]


def test_what_each_pattern_keeps() -> None:
    assert frames("first", 0) == [0]
    assert frames("last", 0) == [5]
    assert frames("ends", 0) == [0, 5]
    assert {tuple(frames("head", seed)) for seed in range(20)} == {(0, 1), (0, 1, 2)}
    assert {tuple(frames("every", seed)) for seed in range(20)} == {(0, 2, 4), (0, 3)}
    assert {tuple(frames("column", seed)) for seed in range(40)} == {(0, 3), (1, 4), (2, 5)}
    assert {tuple(frames("few", seed)) for seed in range(80)} == {(k,) for k in range(6)}


def test_a_column_of_a_serpentine_grid() -> None:
    grid = Grid(rows=2, cols=3, cell=(32, 16), order="serpentine")
    assert {tuple(frames("column", seed, grid=grid)) for seed in range(40)} == {
        (0, 5),
        (1, 4),
        (2, 3),
    }


@pytest.mark.parametrize("pattern", get_args(KeepPattern))
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (4, 6)])
def test_some_frame_is_always_left_to_draw(pattern: KeepPattern, shape: tuple[int, int]) -> None:
    grid = Grid(rows=shape[0], cols=shape[1], cell=(16, 16))
    for seed in range(20):
        assert len(frames(pattern, seed, grid=grid)) < grid.num_frames


def test_the_probability_is_how_often_frames_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = get_args(KeepPattern)
    hits = [bool(draw_kept(0.3, patterns, GRID, generator).any()) for _ in range(500)]
    assert 0.25 < sum(hits) / len(hits) < 0.35
    assert not any(draw_kept(0.0, patterns, GRID, generator).any() for _ in range(50))


def test_kept_frames_are_out_of_the_loss() -> None:
    """By hand: the error of a kept frame counts as zero, and means leave it out."""
    generator = torch.Generator().manual_seed(1)
    predicted = torch.randn(1, 3, 2, 6, generator=generator)
    target = torch.randn(1, 3, 2, 6, generator=generator)
    kept = torch.tensor([[True, True, False, False, False, True]])
    base, temporal = flow_losses(predicted, target, GRID, kept=kept)
    cells = split_cells(predicted - target, GRID)[0]
    assert float(base) == pytest.approx(float(cells[[2, 3, 4]].square().mean()))
    error = [0 * cells[1], *cells[2:5], 0 * cells[5]]
    steps = [float((after - before).square().mean()) for before, after in pairwise(error)]
    assert float(temporal) == pytest.approx(sum(steps) / 4)  # 0 to 1 touches no drawn frame

    changed = predicted.clone()
    changed[:, :, :1, :2] += 7  # frame 0
    again = flow_losses(changed, target, GRID, kept=kept)
    assert torch.equal(base, again[0])
    assert torch.equal(temporal, again[1])


def test_a_step_with_kept_frames_by_hand(load: Callable[..., Any]) -> None:
    """The model gets frame 0 clean and the rest noisy, and learns nothing from frame 0."""
    run = load(train__learning_rate=1e-12, train__keep=1.0, train__keep_patterns=["first"])
    grid, base = run.stages[0].grid, run.setup.base
    mu = base.mu(grid.num_tokens)
    errors = []
    for slot, sample in enumerate(slot_samples(run.samples[0], seed=0, first=0, count=2)):
        generator = torch.Generator().manual_seed(mix_seed(0, 0, slot))
        clean = run.cache.latents(sample, grid)[None]
        noise = base.draw_noise(grid, generator)
        sigma = draw_sigmas(1, mu=mu, mean=0.0, std=1.0, generator=generator)
        noisy = (1 - sigma) * clean + sigma * noise
        noisy[:, :, :2, :2] = clean[:, :, :2, :2]
        prompt = run.cache.prompt(sample.captions[0])
        with torch.no_grad():
            predicted = predict(run.transformer, noisy, sigma=sigma, prompt=prompt, guidance=1.0)
        cells = split_cells(predicted - (noise - clean), grid)[0]
        errors.append(float(cells[1:].square().mean()))
    assert float(take_step(run, 0).losses[0]) == pytest.approx(sum(errors) / 2, rel=1e-4)


def test_the_adapter_says_which_frames_it_can_keep(load: Callable[..., Any], adapter: Path) -> None:
    patterns = ("first", "ends")
    run = load(train__keep=0.1, train__keep_patterns=patterns)
    assert run.setup.adapter_metadata(1).keep == patterns
    assert load(train__keep_patterns=patterns).setup.adapter_metadata(1).keep == ()
    metadata = read_adapter_metadata(adapter)
    assert metadata is not None
    assert metadata.keep == ()


def test_the_frame_that_is_left_is_the_last() -> None:
    """Of a grid of two frames both ends would be kept."""
    for pattern in ("ends", "head"):
        assert frames(pattern, 0, grid=Grid(rows=1, cols=2, cell=(16, 16))) == [0]


def test_one_drawn_frame_has_the_whole_loss() -> None:
    """The mean is over one frame, and over the two steps that touch it."""
    target = torch.zeros(1, 3, 2, 6)
    kept = torch.tensor([[True, True, False, True, True, True]])
    predicted = torch.zeros_like(target)
    predicted[..., :1, 4:6] = 3.0  # frame 2 of 2x3 cells of 32x16 pixels
    base, temporal = flow_losses(predicted, target, GRID, kept=kept)
    assert (float(base), float(temporal)) == (9.0, 9.0)


def test_each_slot_keeps_by_numbers_of_its_own(load: Callable[..., Any]) -> None:
    """A stream beside that of the noise, which is the same with and without kept frames."""
    run, plain = load(train__keep=0.5), load()
    grid, slots = run.stages[0].grid, list(enumerate(run.samples[0]))
    patterns = get_args(KeepPattern)
    for step in range(3):
        batch = draw_grids(run, slots, step, grid=grid, logit_mean=0.0)
        masks = []
        for slot, _ in slots:
            chance = torch.Generator().manual_seed(mix_seed(0, step, slot, 2))
            masks.append(draw_kept(0.5, patterns, grid, chance))
        assert torch.equal(batch.kept, torch.stack(masks))
        other = draw_grids(plain, slots, step, grid=grid, logit_mean=0.0)
        assert torch.equal(batch.noise, other.noise)
        assert other.kept is None
