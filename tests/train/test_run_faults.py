"""What goes wrong in a run: a full disk, a loss that is no number, an explosion."""

import json
import resource
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridctl.errors import InputError
from gridctl.lora.adapters import load_adapter, read_adapter_metadata
from gridctl.models.base import open_base
from gridctl.train import NotFiniteError, export_checkpoint, prepare, train
from gridctl.train.batch import slot_samples
from gridctl.train.cache import Cache
from gridctl.train.checkpoint import list_checkpoints, read_checkpoint
from gridctl.train.data import read_dataset

Make = Callable[..., Any]


@pytest.fixture
def disk() -> Iterator[Callable[[bool], None]]:
    """Called with True: this process can write no file of more than 16 KB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(yes: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384 if yes else before[0], before[1]))

    yield full
    full(False)


def steps_saved(folder: Path) -> list[int]:
    return [read_checkpoint(path)[0] for path in list_checkpoints(folder)]


def test_a_run_outlives_a_full_disk(
    make_profile: Make, tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    path, notes = tmp_path / "a.safetensors", list[str]()
    profile = make_profile(train__output=path, train__steps=4, train__checkpoint_every=1)

    def progress(done: int, total: int, text: str) -> None:
        if "loss" in text:
            disk(done in (2, 3))

    train(profile, progress=progress, note=notes.append)
    assert steps_saved(path.with_suffix(".run")) == [1, 4]
    assert path.exists()
    told = [note for note in notes if "cannot be written" in note]
    assert len(told) == 2
    for note in told:
        assert "The run goes on and tries again at the next checkpoint" in note
        assert note.endswith(
            "the last good checkpoint is "
            + str(path.with_suffix(""))
            + ".run/step-000001.safetensors."
        )


def test_the_first_checkpoint_is_written_within_minutes(make_profile: Make, tmp_path: Path) -> None:
    """And only the first: the others come every so many steps."""
    path = tmp_path / "a.safetensors"
    profile = make_profile(train__output=path, train__steps=5, train__checkpoint_every=100)
    train(profile, clock=count(0, 25).__next__)  # 25 seconds a step
    assert steps_saved(path.with_suffix(".run")) == [3, 5]


def test_a_full_disk_is_not_tried_at_every_step(
    make_profile: Make, tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    path, notes = tmp_path / "a.safetensors", list[str]()
    profile = make_profile(train__output=path, train__steps=5, train__checkpoint_every=100)

    def progress(done: int, total: int, text: str) -> None:
        disk(0 < done < 4)

    train(profile, clock=count(0, 100).__next__, progress=progress, note=notes.append)
    assert len([note for note in notes if "cannot be written" in note]) == 1
    assert steps_saved(path.with_suffix(".run")) == [5]


def test_a_disk_that_is_full_at_the_end_is_an_error_that_names_the_last_checkpoint(
    make_profile: Make, tmp_path: Path, disk: Callable[[bool], None]
) -> None:
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


def test_a_loss_that_is_no_number_stops_the_run(
    make_profile: Make, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.safetensors"
    profile = make_profile(
        train__output=path,
        train__steps=8,
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
    """Latents that are no numbers, in the cache entry of the sample that `slot` gets."""
    grid = profile.grid.to_grid()
    samples = read_dataset(dataset, grid).train
    (victim,) = slot_samples(samples, seed=0, first=slot, count=1)
    cache = Cache.of(open_base(profile), None)
    wanted = cache.latents(victim, grid)
    for entry in (cache.folder / "latents").rglob("*.safetensors"):
        if torch.equal(load_file(entry)["latents"], wanted):
            save_file({"latents": wanted * float("nan")}, entry)


def test_weights_that_are_no_numbers_replace_no_checkpoint(
    make_profile: Make, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two lines of the log nobody looks at the loss, but a checkpoint looks at weights."""
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
        train__steps=20,
        train__learning_rate=1.0,
        train__lora_alpha=400.0,
    )
    with pytest.raises(NotFiniteError, match=r"the loss exploded from 0\.\d+ to .* by step \d+"):
        train(profile)


@pytest.mark.parametrize(("ema", "alpha"), [(0.0, 8.0), (0.9, None)])
def test_a_checkpoint_is_an_adapter(
    make_profile: Make, tmp_path: Path, ema: float, alpha: float | None
) -> None:
    """The last checkpoint holds what the run exported; an earlier one what it would have."""
    path, short = tmp_path / "a.safetensors", tmp_path / "short.safetensors"
    options = {"train__ema": ema, "train__lora_alpha": alpha, "train__checkpoint_every": 1}
    profile = make_profile(train__output=path, train__steps=2, **options)
    train(profile)
    train(make_profile(train__output=short, train__steps=1, **options))
    for step, wanted in ((1, short), (2, path)):
        exported = export_checkpoint(profile, step)
        assert exported == tmp_path / f"a-00000{step}.safetensors"
        stored, expected = load_file(exported), load_file(wanted)
        assert stored.keys() == expected.keys()
        assert all(torch.equal(stored[name], expected[name]) for name in stored)
        facts = read_adapter_metadata(exported)
        assert facts is not None
        assert facts.steps == step
        straight = load_adapter(path.with_suffix(".run") / f"step-00000{step}.safetensors")
        assert all(torch.equal(straight[name], expected[name]) for name in expected)
    with pytest.raises(InputError, match="exists and is not overwritten"):
        export_checkpoint(profile, 1)
    with pytest.raises(InputError, match="no checkpoint of step 7; it has 1, 2"):
        export_checkpoint(profile, 7)


def test_without_a_checkpoint_there_is_nothing_to_export(
    make_profile: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no checkpoint"):
        export_checkpoint(make_profile(train__output=tmp_path / "a.safetensors"), None)


def test_an_adapter_with_weights_that_are_no_numbers_is_refused(
    adapter: Path, tmp_path: Path
) -> None:
    stored = load_file(adapter)
    name = next(iter(stored))
    stored[name][0, 0] = float("nan")
    broken = tmp_path / "broken.safetensors"
    save_file(stored, broken)
    with pytest.raises(InputError, match="not finite numbers"):
        load_adapter(broken)
