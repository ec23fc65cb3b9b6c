"""A step by hand: a loaded run takes single steps, which a naive twin takes slot by slot."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import draw_sigmas
from gridctl.geometry import Grid
from gridctl.lora.adapters import lora_tensors
from gridctl.models import flux1
from gridctl.train import train
from gridctl.train.batch import mix_seed, slot_samples
from gridctl.train.data import Sample
from gridctl.train.step import take_step
from tests.train.runs import log_of

Load = Callable[..., Any]
STILL = {"train__learning_rate": 1e-12}  # too small to learn anything


def predict(run: Any, clean: Tensor, noise: Tensor, sigma: Tensor, text: str) -> Tensor:
    noisy = (1 - sigma) * clean + sigma * noise
    prompt = run.cache.prompt(text)
    velocity: Tensor = flux1.predict(run.transformer, noisy, sigma, prompt, 1.0)
    return velocity


def naive_losses(
    run: Any,
    step: int,
    slot: int,
    sample: Sample,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    max_mu: float | None = None,
) -> Tensor:
    """(2,) The base and the temporal loss of one slot."""
    base, grid = run.setup.base, run.stages[0].grid
    generator = torch.Generator().manual_seed(mix_seed(0, step, slot))
    clean = run.cache.latents(sample, grid)[None]
    noise = base.draw_noise(grid, generator)
    mu = base.mu(grid.num_tokens, cap=max_mu)
    sigma = draw_sigmas(1, mu=mu, mean=mean, std=std, generator=generator)
    predicted = predict(run, clean, noise, sigma, sample.captions[0])
    error = split_cells(predicted - (noise - clean), grid)[0]
    skipped = () if run.profile.train.row_wraps else (2,)  # of 2x3 cells, from frame 2 to 3
    steps = [
        ((error[k + 1] - error[k]) ** 2).mean()
        for k in range(grid.num_frames - 1)
        if k not in skipped
    ]
    return torch.stack([(error**2).mean(), torch.stack(steps).mean()])


def samples_of(run: Any, step: int) -> list[tuple[int, Sample]]:
    """(slot, sample) of a step of two grids."""
    chosen = slot_samples(run.samples[0], seed=0, first=2 * step, count=2)
    return list(enumerate(chosen))


@torch.no_grad()
def naive_means(run: Any, step: int, **values: Any) -> list[float]:
    losses = [naive_losses(run, step, *pair, **values) for pair in samples_of(run, step)]
    means: list[float] = torch.stack(losses).mean(dim=0).tolist()
    return means


def test_losses_are_those_of_a_naive_twin(load: Load) -> None:
    run = load(train__logit_mean=0.5, train__logit_std=0.7, generate__max_mu=0.3, **STILL)
    for step in range(3):
        wanted = naive_means(run, step, mean=0.5, std=0.7, max_mu=0.3)
        assert take_step(run, step).losses.tolist() == pytest.approx([*wanted, 0.0], rel=1e-4)


def test_a_stage_has_its_own_mean_of_sigmas(load: Load) -> None:
    stages = [{"steps": 3, "logit_mean": 1.5}]
    run = load(train__logit_mean=0.5, train__stage=stages, **STILL)
    wanted = naive_means(run, 0, mean=1.5)
    assert take_step(run, 0).losses.tolist()[:2] == pytest.approx(wanted, rel=1e-4)


def test_row_wraps_can_be_left_out(load: Load) -> None:
    run = load(train__row_wraps=False, **STILL)
    wanted = naive_means(run, 0)
    assert take_step(run, 0).losses.tolist()[:2] == pytest.approx(wanted, rel=1e-4)


def gradient(run: Any, step: int = 0) -> Tensor:
    """The gradient that a step gives its optimizer. The weights stay as they are."""
    found: list[Tensor] = []
    before = [parameter.detach().clone() for parameter in run.parameters]
    run.optimizer = torch.optim.SGD(run.parameters, lr=1.0)
    run.optimizer.register_step_pre_hook(
        lambda *_: found.append(torch.cat([p.grad.flatten().clone() for p in run.parameters]))
    )
    take_step(run, step)
    with torch.no_grad():
        for parameter, value in zip(run.parameters, before, strict=True):
            parameter.copy_(value)
    (only,) = found
    return only


@pytest.mark.parametrize(("batch", "passes"), [(2, 1), (1, 2)])
def test_gradients_are_means_over_a_step(load: Load, batch: int, passes: int) -> None:
    """However many passes it has. Adam would hide a factor, so gradients are compared."""
    weights = {"train__base_weight": 2.0, "train__temporal_weight": 0.5}
    sizes = {"train__batch_size": batch, "train__accumulate": passes}
    run = load(train__max_grad_norm=1e9, **weights, **sizes)
    total = torch.zeros(())
    for slot, sample in samples_of(run, 0):
        base, temporal = naive_losses(run, 0, slot, sample)
        total = total + (2.0 * base + 0.5 * temporal) / 2
    total.backward()  # type: ignore[no-untyped-call]
    wanted = torch.cat([parameter.grad.flatten() for parameter in run.parameters])
    run.optimizer.zero_grad()
    assert float(wanted.norm()) > 0.01
    torch.testing.assert_close(gradient(run), wanted, rtol=1e-3, atol=1e-6)


def test_no_step_adds_to_the_gradient_of_another(load: Load) -> None:
    run, fresh = load(train__max_grad_norm=1e9), load(train__max_grad_norm=1e9)
    gradient(run, 0)
    torch.testing.assert_close(gradient(run, 1), gradient(fresh, 1))


def test_a_large_gradient_is_scaled_down(load: Load) -> None:
    run = load(train__max_grad_norm=1e9)
    whole = gradient(run)
    limit = 0.25 * float(whole.norm())
    clipped = load(train__max_grad_norm=limit)
    torch.testing.assert_close(gradient(clipped), 0.25 * whole, rtol=1e-3, atol=1e-7)
    norm = take_step(load(train__max_grad_norm=limit, **STILL), 0).grad_norm
    assert float(norm) == pytest.approx(4 * limit, rel=1e-3)  # reported as it was


def test_single_frames_are_compared_with_the_base(load: Load, adapter: Path) -> None:
    """One frame of each grid, by its content alone, with the adapter and without.

    max_mu is for grids: a single frame is small enough for the base's own shift.
    """
    options = {"train__preserve_weight": 0.5, "generate__max_mu": 0.2}
    run = load(train__start=adapter, **options, **STILL)
    grid, base = run.stages[0].grid, run.setup.base
    single = Grid(rows=1, cols=1, cell=grid.cell)
    mu = base.mu(grid.num_tokens // grid.num_frames)
    for step in range(2):
        moved = []
        for slot, sample in samples_of(run, step):
            generator = torch.Generator().manual_seed(mix_seed(0, step, slot, 1))
            frame = int(torch.randint(grid.num_frames, (), generator=generator))
            clean = split_cells(run.cache.latents(sample, grid), grid)[frame][None]
            noise = base.draw_noise(single, generator)
            sigma = draw_sigmas(1, mu=mu, mean=0.0, std=1.0, generator=generator)
            layout, content = sample.captions[0].split(" order. ")
            assert layout == "2x3 grid of 6 video frames in reading"
            with torch.no_grad():
                one = predict(run, clean, noise, sigma, content)
                run.transformer.disable_adapters()
                other = predict(run, clean, noise, sigma, content)
                run.transformer.enable_adapters()
            moved.append(float(((one - other) ** 2).mean()))
        assert min(moved) > 1e-5
        wanted = [*naive_means(run, step, max_mu=0.2), sum(moved) / 2]
        assert take_step(run, step).losses.tolist() == pytest.approx(wanted, rel=1e-3)


def test_preserving_leads_back_to_the_base(load: Load, adapter: Path) -> None:
    weights = {"train__base_weight": 0.0, "train__temporal_weight": 0.0}
    options = {"train__preserve_weight": 1.0, "train__learning_rate": 0.01}
    run = load(train__start=adapter, **weights, **options)
    moved = [float(take_step(run, step).losses[2]) for step in range(10)]
    assert sum(moved[-3:]) < 0.5 * sum(moved[:3])


def test_preserving_leaves_the_other_losses_alone(load: Load, adapter: Path) -> None:
    plain = load(train__start=adapter, train__max_grad_norm=1e9)
    weightless = load(train__start=adapter, train__max_grad_norm=1e9, train__preserve_weight=1e-12)
    torch.testing.assert_close(gradient(weightless), gradient(plain), rtol=1e-3, atol=1e-6)


def test_the_average_follows_the_weights(load: Load) -> None:
    run = load(train__ema=0.75)
    weights = lora_tensors(run.transformer)
    average = {name: tensor.detach().clone() for name, tensor in weights.items()}
    for step in range(3):
        take_step(run, step)
        for name, tensor in weights.items():
            average[name] = 0.75 * average[name] + 0.25 * tensor.detach()
    for name, tensor in run.ema.items():
        assert torch.allclose(tensor, average[name], atol=1e-7)
    moved = [name for name in average if not torch.allclose(average[name], weights[name])]
    assert len(moved) > len(average) / 2


def test_a_warm_up_runs_over_stages(load: Load) -> None:
    ramp = {"steps": 3, "learning_rate": 4.0, "learning_rate_end": 0.0}
    run = load(train__stage=[{"steps": 2, "learning_rate": 1.0}, ramp], train__warmup_steps=4)
    run.optimizer = torch.optim.SGD(run.parameters, lr=0.0)
    rates = []
    for step in range(5):
        run.optimizer.register_step_pre_hook(lambda optimizer, *_: optimizer.zero_grad())
        result = take_step(run, step)
        assert run.optimizer.param_groups[0]["lr"] == result.learning_rate
        rates.append(result.learning_rate)
    assert rates == pytest.approx([0.25 * 1, 0.5 * 1, 0.75 * 4, 2.0, 0.0])


def test_stages_have_their_own_data_rate_and_ramp(
    make_profile: Load, dataset: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for suffix in (".png", ".txt"):
        shutil.copy(dataset / f"clip_0001{suffix}", few)
    path = tmp_path / "a.safetensors"
    ramp = {"learning_rate": 5e-4, "learning_rate_end": 1e-4}
    ramp |= {"temporal_weight": 0.0, "temporal_weight_end": 0.4}
    tables = [{"steps": 2, "temporal_weight": 0.0}, {"data": few, "steps": 3, **ramp}]
    assert train(make_profile(train__output=path, train__stage=tables)).steps == 5
    log = log_of(path)
    assert [entry["learning_rate"] for entry in log] == pytest.approx(
        [2e-3, 2e-3, 5e-4, 3e-4, 1e-4]
    )
    weights = [(entry["loss"] - entry["base"]) / entry["temporal"] for entry in log]
    assert weights == pytest.approx([0, 0, 0, 0.2, 0.4], abs=1e-5)


def test_stages_count_their_slots_from_zero(load: Load, dataset: Path, tmp_path: Path) -> None:
    """The second stage begins its own data with its own first slots."""
    two = tmp_path / "two"
    two.mkdir()
    for name in ("clip_0001", "clip_0002"):
        for suffix in (".png", ".txt"):
            shutil.copy(dataset / f"{name}{suffix}", two)
    first, second = {"steps": 1, "batch_size": 1}, {"data": two, "steps": 3, "batch_size": 1}
    run = load(train__stage=[first, second], **STILL)
    chosen = slot_samples(run.samples[1], seed=0, first=0, count=3)
    for step in range(3):
        with torch.no_grad():
            base = naive_losses(run, step + 1, 0, chosen[step])[0]
        assert float(take_step(run, step + 1).losses[0]) == pytest.approx(float(base), rel=1e-4)
