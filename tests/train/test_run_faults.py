import json
import resource
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridctl.errors import InputError
from gridctl.lora.adapters import load_adapter
from gridctl.models.base import open_base
from gridctl.train import NotFiniteError, export_checkpoint, prepare, train
from gridctl.train.batch import slot_samples
from gridctl.train.cache import Cache
from gridctl.train.checkpoint import list_checkpoints, read_checkpoint
from gridctl.train.data import read_dataset
from gridctl.train.run import LossGuard
from tests.train.runs import log_of, saved_steps

Make = Callable[..., Any]


@pytest.fixture
def disk() -> Iterator[Callable[[bool], None]]:
    """Called with True: this process can write no file of more than 16 KB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(yes: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384 if yes else before[0], before[1]))

    yield full
    full(False)


def test_a_run_outlives_a_full_disk(
    make_profile: Make, tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    path, notes = tmp_path / "a.safetensors", list[str]()
    profile = make_profile(train__output=path, train__steps=4, train__checkpoint_every=1)

    def progress(done: int, total: int, text: str) -> None:
        if "loss" in text:
            disk(done in (2, 3))

    train(profile, progress=progress, note=notes.append)
    assert saved_steps(path.with_suffix(".run")) == [1, 4]
    assert path.exists()
    shown = [note for note in notes if "cannot be written" in note]
    assert len(shown) == 2
    for note in shown:
        assert "The run goes on and tries again at the next checkpoint" in note
        assert note.endswith(
            "the last good checkpoint is "
            + str(path.with_suffix(""))
            + ".run/step-000001.safetensors."
        )


def test_the_first_checkpoint_comes_within_minutes(make_profile: Make, tmp_path: Path) -> None:
    """And only the first: the others come every so many steps."""
    path = tmp_path / "a.safetensors"
    options = {"train__checkpoint_every": 100, "train__log_every": 2}
    profile = make_profile(train__output=path, train__steps=5, **options)
    train(profile, clock=count(0, 25).__next__)  # 25 seconds a step
    assert saved_steps(path.with_suffix(".run")) == [3, 5]
    assert [entry["step"] for entry in log_of(path)] == [1, 2, 4, 5]


def test_a_full_disk_is_not_tried_at_each_step(
    make_profile: Make, tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    path, notes = tmp_path / "a.safetensors", list[str]()
    profile = make_profile(train__output=path, train__steps=5, train__checkpoint_every=100)

    def progress(done: int, total: int, text: str) -> None:
        disk(0 < done < 4)

    train(profile, clock=count(0, 100).__next__, progress=progress, note=notes.append)
    assert len([note for note in notes if "cannot be written" in note]) == 1
    assert saved_steps(path.with_suffix(".run")) == [5]


def test_a_full_disk_at_the_end_is_an_error(
    make_profile: Make, tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    """It names the last checkpoint, from where the run resumes."""
    path = tmp_path / "a.safetensors"
    profile = make_profile(train__output=path, train__steps=2, train__checkpoint_every=1)
    with pytest.raises(
        InputError, match=r"Step 2 is not saved; the last good .*step-000001"
    ) as error:
        train(profile, progress=lambda done, total, text: disk("loss" in text and done == 2))
    disk(False)
    assert "\n" not in str(error.value)
    assert not path.exists()
    assert train(profile).resumed_at == 1


def test_a_loss_that_is_nan_stops_the_run(
    make_profile: Make, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.safetensors"
    profile = make_profile(
        train__output=path,
        train__steps=4,
        train__batch_size=1,
        train__checkpoint_every=1,
        train__keep_checkpoints=1,
    )
    prepare(profile)
    poison(profile, dataset, slot=2)
    with pytest.raises(NotFiniteError, match=r"not a finite number at step 3; the last good") as e:
        train(profile)
    assert "\n" not in str(e.value)
    (last,) = list_checkpoints(path.with_suffix(".run"))
    assert last.name == "step-000002.safetensors"
    assert str(last) in str(e.value)
    tensors = read_checkpoint(last)[1].values()
    assert all(tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point())
    lines = (path.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()
    for line in lines:
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [json.loads(line)["loss"] is None for line in lines] == [False, False, True]
    assert not path.exists()
    assert load_adapter(export_checkpoint(profile, None))


def poison(profile: Any, dataset: Path, *, slot: int) -> None:
    """Put NaN into the cached latents of the sample that `slot` gets."""
    grid = profile.grid.to_grid()
    samples = read_dataset(dataset, grid).train
    (victim,) = slot_samples(samples, seed=0, first=slot, count=1)
    cache = Cache.of(open_base(profile), None)
    wanted = cache.latents(victim, grid)
    for entry in (cache.folder / "latents").rglob("*.safetensors"):
        if torch.equal(load_file(entry)["latents"], wanted):
            save_file({"latents": wanted * float("nan")}, entry)


def test_weights_that_are_nan_replace_no_checkpoint(
    make_profile: Make, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is checked only when it is logged, the weights at each checkpoint."""
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.safetensors"
    profile = make_profile(
        train__output=path, train__steps=8, train__batch_size=1, train__log_every=100
    )
    prepare(profile)
    poison(profile, dataset, slot=2)

    def stop(done: int, total: int, text: str) -> None:
        if "loss" in text and done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(NotFiniteError, match="there is no checkpoint yet"):
        train(profile, progress=stop)
    assert list_checkpoints(path.with_suffix(".run")) == []


def test_a_loss_that_explodes_stops_the_run(make_profile: Make, tmp_path: Path) -> None:
    profile = make_profile(
        train__output=tmp_path / "a.safetensors",
        train__steps=8,
        train__learning_rate=1.0,
        train__lora_alpha=400.0,
    )
    with pytest.raises(NotFiniteError, match=r"the loss exploded from 0\.\d+ to .* by step \d+"):
        train(profile)


ENTRY = {"loss": 0.5, "grad_norm": 1.0, "base": 0.5}


@pytest.fixture
def watched(tmp_path: Path) -> Callable[..., bool]:
    """Whether a run with these base losses in its log, or these last entries, is stopped."""
    run: Any = SimpleNamespace(setup=SimpleNamespace(folder=tmp_path))

    def stops(*losses: float, **last: float) -> bool:
        guard = LossGuard()
        entries = [{**ENTRY, "base": loss} for loss in losses]
        try:
            for step, entry in enumerate([*entries, {**ENTRY, **last}] if last else entries):
                guard.check(run, {"step": step, **entry})
        except NotFiniteError:
            return True
        return False

    return stops


def test_a_run_is_stopped_by_a_mean_of_five_losses(watched: Callable[..., bool]) -> None:
    """Three times the first loss and above 1, which predicting nothing would cost."""
    assert watched(0.5, *[1.51] * 5)
    assert not watched(0.5, *[1.49] * 5)
    assert not watched(0.1, *[0.9] * 5)  # nine times as much, but noise has a variance of 1
    assert watched(0.1, *[1.1] * 5)
    assert not watched(0.5, 0.5, 9.0, 0.5, 0.5)  # too few
    assert not watched(0.5, 0.5, 0.5, 0.5, 0.5, 5.0)  # one of five: 1.4 in the mean
    assert watched(0.5, 0.5, 0.5, 0.5, 0.5, 9.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_or_gradient_must_be_finite(watched: Callable[..., bool], value: float) -> None:
    assert watched(loss=value)
    assert watched(grad_norm=value)
    assert not watched(loss=1e30, grad_norm=1e30)
