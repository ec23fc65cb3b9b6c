import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gridctl.adapter import convert_adapter
from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import default_mu, draw_sigmas
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.lora.adapters import apply_adapter, read_adapter_metadata, read_lora
from gridctl.machine.devices import has_fast_bfloat16
from gridctl.models.latents import predict_velocity
from gridctl.profile import StageSection, find_setting, profile_toml
from gridctl.prompt import DEFAULT_LAYOUT
from gridctl.tiny.weights import ADAPTER_FILE, BASE_FOLDER
from gridctl.train import train
from gridctl.train.batch import mix_seed, slot_samples
from gridctl.train.cache import Cache
from gridctl.train.checkpoint import list_checkpoints, read_checkpoint
from gridctl.train.data import read_dataset

Make = Callable[..., Any]


def log_of(adapter: Path) -> list[dict[str, float]]:
    lines = (adapter.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def same_weights(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def val_dataset(dataset: Path, tmp_path: Path) -> Path:
    """Three grids to train on, one in val/."""
    folder = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    (folder / "val").mkdir()
    for suffix in (".png", ".txt"):
        (folder / f"clip_0004{suffix}").rename(folder / "val" / f"clip_0004{suffix}")
    return folder


def test_an_adapter_with_its_facts_a_log_and_checkpoints(
    make_profile: Make, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "a.safetensors"
    told: list[tuple[int, int, str]] = []
    profile = make_profile(train__output=path, train__steps=3, train__checkpoint_every=2)
    result = train(profile, progress=lambda *values: told.append(values))
    assert (result.adapter, result.steps, result.resumed_at) == (path, 3, 0)
    facts = read_adapter_metadata(path)
    assert facts is not None
    assert facts.grid == profile.grid.to_grid()
    assert (facts.base, facts.steps, facts.layout) == ("tiny", 3, DEFAULT_LAYOUT)
    assert facts.fps == 12.0  # 12 frames at 24 fps last half a second, in which 6 are shown
    assert "train.rank = 4" in facts.profile
    assert 'train.output = "a.safetensors"' in facts.profile
    assert str(tmp_path) not in facts.profile  # an adapter is shared, its maker's folders are not
    assert str(profile.train.data) not in facts.profile
    assert [p.name for p in list_checkpoints(result.run_folder)] == [
        "step-000002.safetensors",
        "step-000003.safetensors",
    ]
    log = log_of(path)
    assert [entry["step"] for entry in log] == [1, 2, 3]
    for entry in log:
        assert entry["loss"] == pytest.approx(entry["base"] + 0.1 * entry["temporal"], rel=1e-5)
        assert entry["ratio"] == pytest.approx(entry["temporal"] / entry["base"], rel=1e-5)
    assert result.loss == log[-1]["loss"]
    assert [(done, total) for done, total, text in told if "loss" in text] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]


@pytest.mark.parametrize(("stage_mean", "max_mu"), [(None, 0.3), (1.5, None)])
def test_a_step_is_its_naive_twin(
    make_profile: Make,
    base: Any,
    transformer: Any,
    dataset: Path,
    tmp_path: Path,
    stage_mean: float | None,
    max_mu: float | None,
) -> None:
    """The logged losses by hand, sample by sample, at a rate so small that nothing is learned."""
    path = tmp_path / "a.safetensors"
    stages = (StageSection(steps=3, logit_mean=stage_mean),)
    profile = make_profile(
        train__output=path,
        train__learning_rate=1e-12,
        train__logit_mean=0.5,
        train__stage=stages,
        generate__max_mu=max_mu,
    )
    train(profile)
    grid = profile.grid.to_grid()
    samples = read_dataset(dataset, grid).train
    cache = Cache.of(base, None)
    order = slot_samples(samples, seed=0, first=0, count=6)
    mu = default_mu(base.scheduler_config, grid.num_tokens, max_mu=max_mu)
    for step, entry in enumerate(log_of(path)):
        squared, differences = [], []
        for slot in range(2):
            sample = order[2 * step + slot]
            generator = torch.Generator().manual_seed(mix_seed(0, step, slot))
            clean = cache.latents(sample, grid)[None]
            noise = base.draw_noise(grid, generator)
            sigma = draw_sigmas(1, mu=mu, mean=stage_mean or 0.5, std=1.0, generator=generator)
            prompt = cache.prompt(sample.captions[0])
            with torch.inference_mode():
                predicted = predict_velocity(
                    transformer,
                    (1 - sigma) * clean + sigma * noise,
                    sigma=sigma,
                    prompt=prompt,
                    guidance=1.0,
                )
            error = split_cells(predicted - (noise - clean), grid)[0]
            squared.append(float((error**2).mean()))
            for k in range(grid.num_frames - 1):
                differences.append(float(((error[k + 1] - error[k]) ** 2).mean()))
        assert entry["base"] == pytest.approx(sum(squared) / 2, rel=1e-4)
        assert entry["temporal"] == pytest.approx(sum(differences) / len(differences), rel=1e-4)


def test_what_is_preserved_by_hand(
    make_profile: Make, base: Any, transformer: Any, dataset: Path, tmp_path: Path
) -> None:
    """One frame of each grid, by its content alone, with an adapter and without."""
    trained, path = tmp_path / "trained.safetensors", tmp_path / "a.safetensors"
    train(make_profile(train__output=trained, train__steps=3, train__learning_rate=0.02))
    profile = make_profile(
        train__output=path,
        train__start=trained,
        train__steps=3,
        train__learning_rate=1e-12,
        train__preserve_weight=0.5,
    )
    train(profile)
    with_adapter = base.load_transformer(training=True)
    apply_adapter(with_adapter, trained)
    grid = profile.grid.to_grid()
    single = Grid(rows=1, cols=1, cell=grid.cell)
    samples = read_dataset(dataset, grid).train
    cache = Cache.of(base, None)
    order = slot_samples(samples, seed=0, first=0, count=6)
    mu = default_mu(base.scheduler_config, grid.num_tokens // grid.num_frames)
    for step, entry in enumerate(log_of(path)):
        moved = []
        for slot in range(2):
            sample = order[2 * step + slot]
            generator = torch.Generator().manual_seed(mix_seed(0, step, slot, 1))
            frame = int(torch.randint(grid.num_frames, (), generator=generator))
            clean = split_cells(cache.latents(sample, grid), grid)[frame][None]
            noise = base.draw_noise(single, generator)
            sigma = draw_sigmas(1, mu=mu, mean=0.0, std=1.0, generator=generator)
            layout, content = sample.captions[0].split(" order. ")
            assert layout == "2x3 grid of 6 video frames in reading"
            prompt = cache.prompt(content)
            with torch.inference_mode():
                one, other = (
                    predict_velocity(
                        model,
                        (1 - sigma) * clean + sigma * noise,
                        sigma=sigma,
                        prompt=prompt,
                        guidance=1.0,
                    )
                    for model in (transformer, with_adapter)
                )
            moved.append(float(((one - other) ** 2).mean()))
        assert min(moved) > 1e-5
        assert entry["preserve"] == pytest.approx(sum(moved) / 2, rel=1e-3)
        wanted = entry["base"] + 0.1 * entry["temporal"] + 0.5 * entry["preserve"]
        assert entry["loss"] == pytest.approx(wanted, rel=1e-5)


def test_preserving_leads_back_to_the_base_and_leaves_the_other_losses_alone(
    make_profile: Make, tmp_path: Path
) -> None:
    plain, weightless, path = (tmp_path / f"{name}.safetensors" for name in "abc")
    options = {"train__steps": 3, "train__learning_rate": 0.02}
    train(make_profile(train__output=plain, **options))
    train(make_profile(train__output=weightless, train__preserve_weight=1e-12, **options))
    a, b = load_file(plain), load_file(weightless)
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)
    profile = make_profile(
        train__output=path,
        train__start=plain,
        train__steps=20,
        train__base_weight=0.0,
        train__temporal_weight=0.0,
        train__preserve_weight=1.0,
    )
    train(profile)
    moved = [entry["preserve"] for entry in log_of(path)]
    assert sum(moved[-5:]) < 0.5 * sum(moved[:5])


def test_the_same_profile_gives_the_same_adapter_and_another_seed_another(
    make_profile: Make, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        train(make_profile(train__output=path, train__steps=2, train__seed=seed))
    assert same_weights(paths[0], paths[1])
    assert not same_weights(paths[0], paths[2])


def test_a_longer_run_goes_on_and_ends_as_if_it_had_been_one(
    make_profile: Make, tmp_path: Path
) -> None:
    """With average, dropout, warm-up and accumulation, all of which have a state or a count."""
    options = {"train__ema": 0.9, "train__caption_dropout": 0.3, "train__accumulate": 2}
    options |= {"train__warmup_steps": 4, "train__preserve_weight": 0.5}
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    train(make_profile(train__output=whole, train__steps=5, **options))
    assert train(make_profile(train__output=parts, train__steps=2, **options)).resumed_at == 0
    assert not same_weights(whole, parts)
    assert train(make_profile(train__output=parts, train__steps=5, **options)).resumed_at == 2
    assert same_weights(whole, parts)
    rates = [entry["learning_rate"] for entry in log_of(parts)]
    assert rates == pytest.approx([2e-3 * k for k in (0.25, 0.5, 0.75, 1, 1)])
    keep = ("step", "loss", "base", "temporal", "preserve", "learning_rate")
    assert [[entry[k] for k in keep] for entry in log_of(parts)] == [
        [entry[k] for k in keep] for entry in log_of(whole)
    ]


def test_a_finished_run_is_not_trained_again(make_profile: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    profile = make_profile(train__output=path, train__steps=1)
    train(profile)
    first = path.rename(tmp_path / "first.safetensors")
    assert train(profile).resumed_at == 1  # what was lost is written again
    assert same_weights(path, first)
    assert train(profile, force=True).resumed_at == 0
    assert same_weights(path, first)


def test_a_resumed_run_goes_on_smoothing_the_loss(make_profile: Make, tmp_path: Path) -> None:
    path, told = tmp_path / "a.safetensors", [""]
    options = {"train__output": path, "train__log_every": 1}
    train(make_profile(train__steps=2, **options))
    resumed = make_profile(train__steps=3, **options)
    train(resumed, progress=lambda done, total, text: told.append(text))
    losses = [entry["loss"] for entry in log_of(path)]
    smoothed = np.average(losses, weights=[0.81, 0.9, 1])
    assert [text for text in told if "loss" in text][-1].startswith(f"loss {smoothed:.4f}, ")


def test_a_processor_that_multiplies_in_bfloat16_learns_the_same(
    make_profile: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, fast = tmp_path / "exact.safetensors", tmp_path / "fast.safetensors"
    train(make_profile(train__output=exact, train__steps=3))
    monkeypatch.setattr("gridctl.train.setup.has_fast_bfloat16", lambda device: True)
    train(make_profile(train__output=fast, train__steps=3))
    assert not same_weights(exact, fast)
    assert all(tensor.dtype == torch.float32 for tensor in load_file(fast).values())
    for mine, theirs in zip(log_of(fast), log_of(exact), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=0.02)


def test_passes_of_one_grid_add_up_to_a_batch(make_profile: Make, tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    train(make_profile(train__output=one, train__steps=2, train__batch_size=2))
    train(
        make_profile(train__output=other, train__steps=2, train__batch_size=1, train__accumulate=2)
    )
    a, b = load_file(one), load_file(other)
    differences = torch.cat([(a[name] - b[name]).abs().flatten() for name in a])
    # Adam divides by the gradient's own size: where that is rounding, a step goes either way.
    assert (differences > 2e-4).float().mean() < 0.02
    for mine, theirs in zip(log_of(one), log_of(other), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_the_average_is_what_is_exported(make_profile: Make, tmp_path: Path) -> None:
    plain, mean = tmp_path / "plain.safetensors", tmp_path / "mean.safetensors"
    steps: list[dict[str, torch.Tensor]] = []
    for count in range(1, 4):
        train(make_profile(train__output=plain, train__steps=count))
        steps.append(load_file(plain))
    train(make_profile(train__output=mean, train__steps=3, train__ema=0.75))
    exported = load_file(mean)
    for name, tensor in exported.items():
        if ".lora_B." not in name:
            continue  # A's start is not zero, and not in a file
        shadow = torch.zeros_like(tensor)
        for weights in steps:
            shadow = 0.75 * shadow + 0.25 * weights[name]
        assert torch.allclose(tensor, shadow, atol=1e-7)
        assert not torch.allclose(tensor, steps[-1][name], atol=1e-5)


def test_alpha_beside_rank_is_in_the_file(make_profile: Make, tmp_path: Path) -> None:
    """B is trained from zero: with alpha 8 on rank 4 the file has twice the trained B."""
    path = tmp_path / "a.safetensors"
    result = train(make_profile(train__output=path, train__steps=1, train__lora_alpha=8.0))
    _, tensors, _ = read_checkpoint(list_checkpoints(result.run_folder)[-1])
    exported = load_file(path)
    for name, tensor in exported.items():
        inner = tensors[name.removeprefix("transformer.").replace(".weight", ".default.weight")]
        assert torch.allclose(tensor, inner * (2 if ".lora_B." in name else 1))


def test_a_run_begins_with_another_runs_weights(make_profile: Make, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train(make_profile(train__output=first, train__steps=3))
    options = {"train__output": second, "train__start": first, "train__lora_alpha": 8.0}
    options |= {"train__steps": 2, "train__seed": 5}
    train(make_profile(train__learning_rate=1e-12, **options))
    began, ended = load_file(first), load_file(second)
    assert began.keys() == ended.keys()
    for name, tensor in began.items():
        assert torch.allclose(tensor, ended[name], atol=1e-8)
    train(make_profile(**options), force=True)
    assert not same_weights(first, second)
    facts = read_adapter_metadata(second)
    assert facts is not None
    assert 'train.start = "first.safetensors"' in facts.profile
    assert train(make_profile(**options)).resumed_at == 2  # the same adapter to begin with
    train(make_profile(train__output=first, train__steps=4))
    with pytest.raises(InputError, match="other data or settings"):
        train(make_profile(**options))


def test_a_base_in_a_folder_is_named_without_what_lies_above(
    make_profile: Make, tmp_path: Path
) -> None:
    path, folder = tmp_path / "a.safetensors", BASE_FOLDER
    train(make_profile(train__output=path, train__steps=1, model__base=str(folder)))
    facts = read_adapter_metadata(path)
    assert facts is not None
    assert facts.base == "./tiny"  # not "tiny", which is the built-in base
    assert 'model.base = "./tiny"' in facts.profile
    assert str(folder.parent) not in facts.profile


def test_a_run_begins_with_the_built_in_adapter(make_profile: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    options = {"train__output": path, "train__steps": 1, "train__learning_rate": 1e-12}
    train(make_profile(train__start="tiny-grid", train__rank=64, **options))
    shipped = load_file(ADAPTER_FILE)
    for name, tensor in load_file(path).items():
        assert torch.allclose(tensor, shipped[name].float(), atol=1e-8)


@pytest.mark.parametrize("naming", ["kohya", "comfyui"])
def test_a_run_begins_with_a_lora_of_another_tool_and_of_a_lower_rank(
    make_profile: Make, tmp_path: Path, naming: Literal["kohya", "comfyui"]
) -> None:
    own, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    train(make_profile(train__output=own, train__steps=1))
    convert_adapter(str(own), other, naming)
    rate = {"train__steps": 1, "train__learning_rate": 1e-12, "train__rank": 12}
    path = tmp_path / "more.safetensors"
    train(make_profile(train__output=path, train__start=other, **rate))
    first, second = read_lora(own).pairs, read_lora(path).pairs
    assert first.keys() == second.keys()
    for name, pair in first.items():
        assert second[name].rank == 12
        assert torch.allclose(second[name].up @ second[name].down, pair.up @ pair.down, atol=1e-6)


def test_an_adapter_that_a_run_cannot_begin_with_is_one_line(
    make_profile: Make, tmp_path: Path
) -> None:
    """Faults other than the names of single layers show before anything is encoded or loaded."""
    start, text = tmp_path / "start.safetensors", tmp_path / "plain.safetensors"
    train(make_profile(train__output=start, train__steps=1))
    text.write_text("no adapter")
    foreign, deeper = tmp_path / "foreign.safetensors", tmp_path / "deeper.safetensors"
    text_too, norms = tmp_path / "text.safetensors", tmp_path / "norms.safetensors"
    matrices, norm = load_file(start), "transformer_blocks.0.norm1.linear"
    pair = {"lora_A.weight": torch.zeros(4, 160), "lora_B.weight": torch.zeros(960, 4)}
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}, foreign)
    save_file({n.replace("blocks.0", "blocks.9"): t for n, t in matrices.items()}, deeper)
    save_file(matrices | {f"lora_te1_x.{n}": t for n, t in pair.items()}, text_too)
    save_file(matrices | {f"transformer.{norm}.{n}": t for n, t in pair.items()}, norms)
    with pytest.raises(UsageError, match="trained on it") as error:
        train(make_profile(train__output=tmp_path / "new.safetensors", train__start=deeper))
    assert "\n" not in str(error.value)
    told: list[str] = []
    for fault, options in {
        "rank 4, and train.rank is 2; set train.rank to 4": {
            "train__start": start,
            "train__rank": 2,
        },
        "holds no LoRA": {"train__start": foreign},
        "2 tensors that training cannot continue, such as lora_te1_x": {"train__start": text_too},
        r"not trained, such as transformer_blocks\.0\.norm1\.linear": {"train__start": norms},
        "must be a safetensors file": {"train__start": text},
        "is not there": {"train__start": tmp_path / "nowhere.safetensors"},
        "would replace": {"train__start": start, "train__output": start},
    }.items():
        profile = make_profile(**{"train__output": tmp_path / "new.safetensors", **options})
        with pytest.raises((UsageError, InputError), match=fault) as error:
            train(profile, force=True, progress=lambda done, total, text: told.append(text))
        assert "\n" not in str(error.value)
    assert told
    assert not [text for text in told if text.startswith(("loading", "encoding"))]


def test_the_file_is_of_the_dtype_that_the_profile_says(make_profile: Make, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    train(make_profile(train__output=whole, train__steps=2))
    train(make_profile(train__output=half, train__steps=2, train__save_dtype="float16"))
    wanted = {name: tensor.half() for name, tensor in load_file(whole).items()}
    got = load_file(half)
    assert got.keys() == wanted.keys()
    assert all(got[n].dtype == torch.float16 and torch.equal(got[n], wanted[n]) for n in got)


def test_stages_have_their_own_data_rate_and_ramp(
    make_profile: Make, dataset: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for suffix in (".png", ".txt"):
        shutil.copy(dataset / f"clip_0001{suffix}", few)
    path = tmp_path / "a.safetensors"
    stages = [
        StageSection(steps=2, temporal_weight=0.0),
        StageSection(
            data=few,
            steps=3,
            learning_rate=5e-4,
            learning_rate_end=1e-4,
            temporal_weight=0.0,
            temporal_weight_end=0.4,
        ),
    ]
    tables = [{k: v for k, v in stage.values().items() if v is not None} for stage in stages]
    profile = make_profile(train__output=path, train__stage=tables)
    assert train(profile).steps == 5
    log = log_of(path)
    assert [entry["learning_rate"] for entry in log] == pytest.approx(
        [2e-3, 2e-3, 5e-4, 3e-4, 1e-4]
    )
    weights = [(entry["loss"] - entry["base"]) / entry["temporal"] for entry in log]
    assert weights == pytest.approx([0, 0, 0, 0.2, 0.4], abs=1e-5)


def with_captions(dataset: Path, folder: Path, caption: str) -> Path:
    """A copy of the dataset with this caption everywhere."""
    shutil.copytree(dataset, folder)
    for text in folder.glob("*.txt"):
        text.write_text(caption)
    return folder


@pytest.mark.parametrize(("dropout", "same"), [(1.0, True), (0.0, False)])
def test_a_dropped_caption_has_no_influence(
    make_profile: Make, dataset: Path, tmp_path: Path, dropout: float, same: bool
) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path, caption in zip(paths, ("a red circle", "a blue square"), strict=True):
        data = with_captions(dataset, tmp_path / path.stem, caption)
        options = {"train__data": data, "train__caption_dropout": dropout}
        train(make_profile(train__output=path, train__steps=2, **options))
    assert same_weights(*paths) == same


def test_each_of_several_captions_is_trained(
    make_profile: Make, dataset: Path, tmp_path: Path
) -> None:
    """Which caption a slot has is random: neither all the first nor all the second."""
    one, other, both = "a red circle", "a blue square", "a red circle\na blue square"
    losses = {}
    for name, caption in (("one", one), ("other", other), ("both", both)):
        data = with_captions(dataset, tmp_path / name, caption)
        path = tmp_path / f"{name}.safetensors"
        options = {"train__batch_size": 1, "train__learning_rate": 1e-12}
        train(make_profile(train__output=path, train__steps=8, train__data=data, **options))
        losses[name] = [entry["base"] for entry in log_of(path)]
    chosen = [
        min("one", "other", key=lambda name: abs(losses[name][k] - losses["both"][k]))
        for k in range(8)
    ]
    assert [losses[name][k] for k, name in enumerate(chosen)] == pytest.approx(losses["both"])
    assert set(chosen) == {"one", "other"}


def test_validation_is_on_val_and_repeatable(
    make_profile: Make, val_dataset: Path, base: Any, transformer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    options = {"train__data": val_dataset, "train__checkpoint_every": 1, "train__keep": 0.9}
    options["train__caption_dropout"] = 0.9
    # A rate this small changes nothing, so any difference would come from chance.
    train(make_profile(train__output=path, train__steps=3, train__learning_rate=1e-12, **options))
    log = log_of(path)
    losses = [entry["validation"] for entry in log]
    assert [entry["step"] for entry in log] == [0, 1, 2, 3]  # 0 is the start, to compare with
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-6)
    bands = log[-1]["validation_bands"]
    assert [band["sigma"] for band in bands] == [0.125, 0.375, 0.625, 0.875]
    mean = sum(band["base"] + 0.1 * band["temporal"] for band in bands) / 4
    assert losses[0] == pytest.approx(mean)
    # The highest band by hand.
    grid = make_profile().grid.to_grid()
    (sample,) = read_dataset(val_dataset, grid).validation
    cache = Cache.of(base, None)
    clean = cache.latents(sample, grid)[None]
    generator = torch.Generator().manual_seed(mix_seed(0, 2**31, 0))
    noise = base.draw_noise(grid, generator)
    prompt = cache.prompt(sample.captions[0])
    with torch.inference_mode():
        predicted = predict_velocity(
            transformer,
            0.125 * clean + 0.875 * noise,
            sigma=torch.tensor([0.875]),
            prompt=prompt,
            guidance=1.0,
        )
    squared = float((predicted - (noise - clean)).square().mean())
    assert bands[-1]["base"] == pytest.approx(squared, rel=1e-4)


def test_validation_changes_nothing(make_profile: Make, val_dataset: Path, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(val_dataset, tmp_path / "plain"))
    shutil.rmtree(plain / "val")
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path, data in zip(paths, (val_dataset, plain), strict=True):
        options = {"train__steps": 3, "train__checkpoint_every": 1}
        train(make_profile(train__output=path, train__data=data, **options))
    assert same_weights(*paths)


def test_without_val_there_is_no_validation(make_profile: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    train(make_profile(train__output=path, train__steps=1))
    assert "validation" not in log_of(path)[0]


def test_it_learns(make_profile: Make, dataset: Path, tmp_path: Path) -> None:
    """Thirty steps on one grid: the loss on fixed noise, by validation on the same grid."""
    one = tmp_path / "one"
    for folder in (one, one / "val"):
        folder.mkdir()
        for suffix in (".png", ".txt"):
            shutil.copy(dataset / f"clip_0001{suffix}", folder)
    path = tmp_path / "a.safetensors"
    train(
        make_profile(
            train__output=path,
            train__data=one,
            train__steps=30,
            train__checkpoint_every=5,
            train__learning_rate=5e-3,
            train__rank=8,
        )
    )
    losses = [entry["validation"] for entry in log_of(path) if "validation" in entry]
    assert len(losses) == 7
    assert losses[-1] < 0.9 * losses[0]


def test_captions_without_the_layout_prompt_leave_no_layout(
    make_profile: Make, dataset: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    for text in data.glob("*.txt"):
        text.write_text("a cat on a mat")
    path = tmp_path / "a.safetensors"
    train(make_profile(train__output=path, train__data=data, train__steps=1))
    facts = read_adapter_metadata(path)
    assert facts is not None
    assert facts.layout == ""


def test_a_damaged_checkpoint_is_one_line_and_its_removal_a_way_on(
    make_profile: Make, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    profile = make_profile(train__output=path, train__steps=2, train__checkpoint_every=1)
    folder = train(profile).run_folder
    wanted = path.rename(tmp_path / "wanted.safetensors")
    newest = list_checkpoints(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(InputError, match="delete it to resume from the one before") as error:
        train(profile)
    assert "\n" not in str(error.value)
    newest.unlink()
    assert train(profile).resumed_at == 1
    assert same_weights(path, wanted)


def test_it_trains_in_a_thread_too(make_profile: Make, tmp_path: Path) -> None:
    """Signals can be caught in the main thread only; a notebook may run it elsewhere."""
    path = tmp_path / "a.safetensors"
    failed: list[BaseException] = []

    def work() -> None:
        try:
            train(make_profile(train__output=path, train__steps=1))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []
    assert path.exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(
    make_profile: Make, tmp_path: Path, how: signal.Signals
) -> None:
    path = tmp_path / "a.safetensors"
    profile = make_profile(train__output=path, train__steps=5, train__checkpoint_every=100)

    def stop(done: int, total: int, text: str) -> None:
        if "loss" in text and done == 1:  # in the pause between steps: the second still ends
            signal.raise_signal(how)

    before = signal.getsignal(how)
    with pytest.raises(KeyboardInterrupt):
        train(profile, progress=stop)
    assert signal.getsignal(how) is before
    assert not path.exists()
    assert [p.name for p in list_checkpoints(path.with_suffix(".run"))] == [
        "step-000002.safetensors"
    ]
    assert train(profile).resumed_at == 2


STEPS = 16


OPTIMIZERS = find_setting("memory.optimizer").choices


@pytest.mark.parametrize(
    ("how", "optimizer"),
    [(signal.SIGINT, "adamw"), *((signal.SIGKILL, optimizer) for optimizer in OPTIMIZERS)],
)
def test_an_interrupted_run_ends_with_the_same_bits(
    make_profile: Make,
    gridctl: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    how: signal.Signals,
    optimizer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real executable, stopped in the middle by a signal and by sudden death."""
    monkeypatch.setattr("gridctl.train.setup.has_fast_bfloat16", has_fast_bfloat16)  # as it has
    path, whole = tmp_path / "a.safetensors", tmp_path / "whole.safetensors"
    options = {"train__steps": STEPS, "train__checkpoint_every": 4}
    options["memory__optimizer"] = optimizer
    train(make_profile(train__output=whole, **options))
    mine = tmp_path / "mine.toml"
    mine.write_text(profile_toml(make_profile(train__output=path, **options)))
    process = subprocess.Popen(
        [sys.executable, "-m", "gridctl", "train", str(mine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = path.with_suffix(".run")
    deadline = time.monotonic() + 120
    while not list_checkpoints(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    out, err = process.communicate(timeout=120)
    assert not path.exists(), "it was over before it could be stopped"
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert re.fullmatch(
            rf"stopped at step \d+ of {STEPS}; the same command resumes there",
            err.splitlines()[-1],
        )
    else:
        assert process.returncode == -signal.SIGKILL
    assert out == ""
    stopped_at = read_checkpoint(list_checkpoints(folder)[-1])[0]
    assert 0 < stopped_at < STEPS
    capsys.readouterr()
    assert gridctl("train", mine, "--json") == 0
    assert json.loads(capsys.readouterr().out)["resumed_at"] == stopped_at
    assert same_weights(path, whole)


def test_recomputed_activations_change_nothing(make_profile: Make, tmp_path: Path) -> None:
    plain, saving = tmp_path / "plain.safetensors", tmp_path / "saving.safetensors"
    train(make_profile(train__output=plain, train__steps=2))
    train(make_profile(train__output=saving, train__steps=2, memory__gradient_checkpointing=True))
    a, b = load_file(plain), load_file(saving)
    assert all(torch.allclose(a[name], b[name], atol=2e-4) for name in a)


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(make_profile: Make, tmp_path: Path) -> None:
    """With recomputed activations, and single images without the adapter between the steps."""
    plain, compiled = tmp_path / "plain.safetensors", tmp_path / "compiled.safetensors"
    options = {"train__steps": 2, "train__preserve_weight": 0.5}
    options |= {"memory__gradient_checkpointing": True, "memory__checkpointed_share": 0.5}
    train(make_profile(train__output=plain, **options))
    train(make_profile(train__output=compiled, train__compile=True, **options))
    a, b = load_file(plain), load_file(compiled)
    assert all(torch.allclose(a[name], b[name], atol=2e-4) for name in a)
    for mine, theirs in zip(log_of(compiled), log_of(plain), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_without_a_compiler_nothing_is_compiled(
    make_profile: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    profile = make_profile(train__output=tmp_path / "a.safetensors", train__compile=True)
    with pytest.raises(UsageError, match=r"train\.compile needs a C\+\+ compiler"):
        train(profile)
    assert list(tmp_path.iterdir()) == []
