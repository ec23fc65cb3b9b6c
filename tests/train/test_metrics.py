import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.errors import InputError
from gridctl.models.latents import predict_velocity
from gridctl.train import train
from gridctl.train.batch import mix_seed
from gridctl.train.cache import Cache
from gridctl.train.data import read_dataset
from gridctl.train.metrics import append_metrics, keep_metrics, read_metrics, smoothed
from tests.train.runs import log_of, same_weights

Make = Callable[..., Any]

LINES = [json.dumps({"step": step, "loss": 0.5}) + "\n" for step in (1, 2, 3)]


def test_metrics_survive_a_crash(tmp_path: Path) -> None:
    """A line that was cut off is left out, and so is what a resumed run will do again."""
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(LINES) + '{"step": 4, "lo')
    assert [entry["step"] for entry in read_metrics(tmp_path)] == [1, 2, 3]
    assert [entry["step"] for entry in keep_metrics(tmp_path, 2)] == [1, 2]
    assert log.read_text() == "".join(LINES[:2])


@pytest.mark.parametrize("cut", ['{"step": 4, "lo', "{", '{"step": 4, "loss": 0.5}', "\0\0\0"])
def test_a_cut_line_does_not_take_the_next(tmp_path: Path, cut: str) -> None:
    """A run that resumes at the last whole line, or at one that only lacks its end."""
    (tmp_path / "metrics.jsonl").write_text("".join(LINES) + cut)
    keep_metrics(tmp_path, 3)
    append_metrics(tmp_path, {"step": 4, "loss": 0.25})
    assert [entry["step"] for entry in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert read_metrics(tmp_path)[-1]["loss"] == 0.25


def test_a_run_from_the_start_begins_a_new_log(tmp_path: Path) -> None:
    assert keep_metrics(tmp_path, 0) == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "validation": 1.0}\n' + LINES[0])
    assert keep_metrics(tmp_path, 0) == []
    assert read_metrics(tmp_path) == []


def test_a_link_in_the_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "metrics.jsonl").symlink_to("thesis.txt")
    with pytest.raises(InputError, match=r"metrics\.jsonl cannot be written"):
        append_metrics(tmp_path, {"step": 1, "loss": 0.5})
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_smoothing_does_not_pull_towards_zero() -> None:
    assert smoothed([5.0, 5.0, 5.0]) == pytest.approx([5.0, 5.0, 5.0])
    assert smoothed([1.0, 2.0]) == pytest.approx([1.0, (0.9 * 1 + 2) / 1.9])
    assert smoothed([]) == []


def test_a_log_cut_by_a_crash_is_whole_again(make_profile: Make, copied: Path) -> None:
    log = copied.with_suffix(".run") / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 4, "lo')
    train(make_profile(train__output=copied, train__steps=4))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3, 4]


def test_validation_is_on_val_and_repeatable(
    make_profile: Make, val_dataset: Path, base: Any, transformer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    options = {"train__data": val_dataset, "train__checkpoint_every": 1, "train__keep": 0.9}
    options["train__caption_dropout"] = 0.9
    # A rate this small changes nothing, so any difference would come from chance.
    train(make_profile(train__output=path, train__steps=2, train__learning_rate=1e-12, **options))
    log = log_of(path)
    losses = [entry["validation"] for entry in log]
    assert [entry["step"] for entry in log] == [0, 1, 2]  # 0 is the start, to compare with
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
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
        options = {"train__steps": 2, "train__checkpoint_every": 1}
        train(make_profile(train__output=path, train__data=data, **options))
    assert same_weights(*paths)
