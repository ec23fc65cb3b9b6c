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
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gridctl.errors import InputError, UsageError
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.machine.devices import has_fast_bfloat16
from gridctl.profile import profile_toml
from gridctl.prompt import DEFAULT_LAYOUT
from gridctl.train import Stopped, train
from gridctl.train.checkpoint import list_checkpoints, read_checkpoint
from tests.train.runs import log_of, same_weights, saved_steps

Make = Callable[..., Any]


def test_an_adapter_a_log_and_checkpoints(make_profile: Make, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    seen: list[tuple[int, int, str]] = []
    profile = make_profile(train__output=path, train__steps=3, train__checkpoint_every=2)
    result = train(profile, progress=lambda *values: seen.append(values))
    assert (result.adapter, result.steps, result.resumed_at) == (path, 3, 0)
    metadata = read_adapter_metadata(path)
    assert metadata is not None
    assert metadata.grid == profile.grid.to_grid()
    assert (metadata.base, metadata.steps, metadata.layout) == ("tiny", 3, DEFAULT_LAYOUT)
    assert metadata.fps == 12.0  # 12 frames at 24 fps last half a second, in which 6 are shown
    assert "train.rank = 4" in metadata.profile
    assert 'train.output = "a.safetensors"' in metadata.profile
    assert str(tmp_path) not in metadata.profile  # others get the adapter, not its maker's folders
    assert str(profile.train.data) not in metadata.profile
    assert saved_steps(result.run_folder) == [2, 3]
    log = log_of(path)
    assert [entry["step"] for entry in log] == [1, 2, 3]
    for entry in log:
        assert entry["loss"] == pytest.approx(entry["base"] + 0.1 * entry["temporal"], rel=1e-5)
        assert entry["ratio"] == pytest.approx(entry["temporal"] / entry["base"], rel=1e-5)
        assert "validation" not in entry  # the dataset has no val/
    assert result.loss == log[-1]["loss"]
    steps = [(done, total) for done, total, text in seen if "loss" in text]
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_a_seed_decides_the_adapter(
    make_profile: Make, finished: Path, tmp_path: Path, seed: int, same: bool
) -> None:
    path = tmp_path / "a.safetensors"
    train(make_profile(train__output=path, train__steps=3, train__seed=seed))
    assert same_weights(path, finished) == same


def test_a_longer_run_ends_as_if_it_had_been_one(make_profile: Make, tmp_path: Path) -> None:
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


def test_a_finished_run_is_not_trained_again(
    make_profile: Make, finished: Path, copied: Path
) -> None:
    copied.unlink()
    profile = make_profile(train__output=copied, train__steps=3)
    assert train(profile).resumed_at == 3  # what was lost is written again
    assert same_weights(copied, finished)
    assert train(profile, force=True).resumed_at == 0
    assert same_weights(copied, finished)


def test_a_resumed_run_continues_the_smoothed_loss(make_profile: Make, copied: Path) -> None:
    seen = [""]
    longer = make_profile(train__output=copied, train__steps=4)
    train(longer, progress=lambda done, total, text: seen.append(text))
    losses = [entry["loss"] for entry in log_of(copied)]
    smoothed = np.average(losses, weights=[0.729, 0.81, 0.9, 1])
    assert [text for text in seen if "loss" in text][-1].startswith(f"loss {smoothed:.4f}, ")


def test_a_shorter_run_is_one_line(make_profile: Make, copied: Path) -> None:
    with pytest.raises(InputError, match="is at step 3, past the 2 asked for; use --force"):
        train(make_profile(train__output=copied, train__steps=2))


def test_bfloat16_matrices_learn_the_same(
    make_profile: Make, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridctl.train.setup.has_fast_bfloat16", lambda device: True)
    fast = tmp_path / "fast.safetensors"
    train(make_profile(train__output=fast, train__steps=3))
    assert not same_weights(finished, fast)
    assert all(tensor.dtype == torch.float32 for tensor in load_file(fast).values())
    for mine, theirs in zip(log_of(fast), log_of(finished), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=0.02)


def test_recomputed_activations_change_nothing(
    make_profile: Make, finished: Path, tmp_path: Path
) -> None:
    saving = tmp_path / "saving.safetensors"
    train(make_profile(train__output=saving, train__steps=3, memory__gradient_checkpointing=True))
    a, b = load_file(finished), load_file(saving)
    assert all(torch.allclose(a[name], b[name], atol=3e-4) for name in a)


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


def test_the_loss_on_fixed_noise_falls(make_profile: Make, dataset: Path, tmp_path: Path) -> None:
    """Twenty steps on one grid, and validation on the same."""
    one = tmp_path / "one"
    for folder in (one, one / "val"):
        folder.mkdir()
        for suffix in (".png", ".txt"):
            shutil.copy(dataset / f"clip_0001{suffix}", folder)
    path = tmp_path / "a.safetensors"
    options = {"train__steps": 20, "train__checkpoint_every": 10, "train__batch_size": 1}
    train(make_profile(train__output=path, train__data=one, train__learning_rate=5e-3, **options))
    losses = [entry["validation"] for entry in log_of(path) if "validation" in entry]
    assert len(losses) == 3
    assert losses[-1] < 0.9 * losses[0]


def test_a_damaged_checkpoint_is_one_line(make_profile: Make, finished: Path, copied: Path) -> None:
    """And deleting it is the way on, as the line says."""
    profile = make_profile(train__output=copied, train__steps=3)
    newest = list_checkpoints(copied.with_suffix(".run"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(InputError, match="delete it to resume from the one before") as error:
        train(profile)
    assert "\n" not in str(error.value)
    newest.unlink()
    assert train(profile).resumed_at == 2
    assert same_weights(copied, finished)


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
def test_a_signal_ends_a_run_after_its_step(
    make_profile: Make, finished: Path, tmp_path: Path, how: signal.Signals
) -> None:
    path = tmp_path / "a.safetensors"
    profile = make_profile(train__output=path, train__steps=3, train__checkpoint_every=100)

    def stop(done: int, total: int, text: str) -> None:
        if "loss" in text and done == 1:  # in the pause between steps: the second still ends
            signal.raise_signal(how)

    before = signal.getsignal(how)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 2 of 3; the same command resumes"):
        train(profile, progress=stop)
    assert signal.getsignal(how) is before
    assert not path.exists()
    assert saved_steps(path.with_suffix(".run")) == [2]
    assert train(profile).resumed_at == 2
    assert same_weights(path, finished)


def test_a_run_with_8_bit_adam_resumes(make_profile: Make, tmp_path: Path) -> None:
    """At rank 32 most matrices have 4,096 numbers or more, from where their state has 8 bits."""
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    options = {"train__steps": 4, "train__checkpoint_every": 2, "train__rank": 32}
    options["memory__optimizer"] = "adamw8bit"
    folder = train(make_profile(train__output=whole, **options)).run_folder
    state = read_checkpoint(list_checkpoints(folder)[-1])[1]
    assert any(t.dtype == torch.uint8 and "state1" in name for name, t in state.items())

    def stop(done: int, total: int, text: str) -> None:
        if "loss" in text and done == 2:
            signal.raise_signal(signal.SIGINT)

    profile = make_profile(train__output=parts, **options)
    with pytest.raises(Stopped):
        train(profile, progress=stop)
    assert train(profile).resumed_at == 3
    assert same_weights(parts, whole)


STEPS = 12


@pytest.fixture(scope="module")
def uninterrupted(
    make_profile: Make, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted") / "whole.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCTL_CACHE", str(shared_cache))
        train(make_profile(train__output=path, train__steps=STEPS))
    return path


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_ends_with_the_same_bits(
    make_profile: Make,
    gridctl: Callable[..., int],
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    how: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real executable, stopped in the middle by a signal and by sudden death."""
    monkeypatch.setattr("gridctl.train.setup.has_fast_bfloat16", has_fast_bfloat16)  # as it has
    path, options = tmp_path / "a.safetensors", {"train__steps": STEPS}
    options["train__checkpoint_every"] = 2
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
    assert same_weights(path, uninterrupted)


def test_a_signal_at_the_last_step_is_too_late(make_profile: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"

    def stop(done: int, total: int, text: str) -> None:
        if text == "first step":
            signal.raise_signal(signal.SIGINT)

    assert train(make_profile(train__output=path, train__steps=1), progress=stop).steps == 1
    assert path.exists()
