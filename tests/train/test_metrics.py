import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.errors import InputError
from gridctl.models.flux1 import predict
from gridctl.train import train
from gridctl.train.batch import mix_seed
from gridctl.train.cache import Cache
from gridctl.train.data import read_dataset
from gridctl.train.metrics import (
    Meter,
    append_metrics,
    flat_metrics,
    keep_metrics,
    read_metrics,
    smoothed,
    validate,
    validation_keys,
)
from gridctl.train.step import StepResult
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


def test_a_link_instead_of_the_log_is_not_followed(tmp_path: Path) -> None:
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
        predicted = predict(
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


def test_metrics_go_to_tensorboard(make_profile: Make, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = tmp_path / "a.safetensors"
    folder = train(
        make_profile(train__output=path, train__steps=2, train__trackers=["tensorboard"])
    ).run_folder
    events = min(folder.rglob("events.out.tfevents.*"), key=lambda file: len(file.parts))
    found = EventAccumulator(str(events.parent)).Reload()
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    wanted = [(entry["step"], pytest.approx(entry["loss"])) for entry in logged]
    assert [(scalar.step, scalar.value) for scalar in found.Scalars("loss")] == wanted


def test_an_entry_by_hand(load: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses by their weights, and seconds by the steps since the entry before."""
    run = load(train__base_weight=2.0, train__preserve_weight=0.5)
    times = iter([0.0, 10.0, 12.0])
    monkeypatch.setattr("gridctl.train.metrics.time.monotonic", lambda: next(times))
    meter = Meter([{"step": 0, "validation": 1.0}, {"step": 1, "loss": 3.0}])
    result = StepResult(
        losses=torch.tensor([0.25, 0.5, 0.125]),
        grad_norm=torch.tensor(7.0),
        learning_rate=0.01,
        temporal_weight=0.1,
    )
    for _ in range(4):
        meter.count()
    entry = meter.measure(run, 5, result)
    assert entry == pytest.approx(
        {
            "step": 5, "loss": 2 * 0.25 + 0.1 * 0.5 + 0.5 * 0.125, "base": 0.25, "temporal": 0.5,
            "preserve": 0.125, "ratio": 2.0, "grad_norm": 7.0, "learning_rate": 0.01,
            "temporal_weight": 0.1, "seconds": 2.5,
        }
    )  # fmt: skip
    mean = (0.9 * 3.0 + entry["loss"]) / 1.9
    assert meter.text == f"loss {mean:.4f}, 2.5 s/step, learning rate 0.01"
    meter.count()
    assert meter.measure(run, 6, result)["seconds"] == 2.0


def test_validation_is_a_mean_over_grids(load: Make, dataset: Path, tmp_path: Path) -> None:
    """However they are batched."""

    def losses(names: str, batch: int) -> Any:
        folder = tmp_path / f"{names}{batch}"
        for part, numbers in (("train", "1"), ("val", names)):
            (folder / part).mkdir(parents=True)
            for number in numbers:
                for suffix in (".png", ".txt"):
                    shutil.copy(dataset / f"clip_000{number}{suffix}", folder / part)
        run = load(train__data=folder, train__batch_size=batch, train__base_weight=3.0)
        entry = validate(run)
        bands = [[band["base"], band["temporal"]] for band in entry["validation_bands"]]
        mean = torch.tensor(bands).mean(dim=0)
        assert entry["validation"] == pytest.approx(float(3 * mean[0] + 0.1 * mean[1]))
        return torch.tensor(bands)

    both = losses("34", 2)
    torch.testing.assert_close(losses("34", 1), both)
    assert not torch.allclose(losses("3", 1), both, rtol=1e-3)


def test_trackers_get_noise_levels_by_name() -> None:
    bands = [{"sigma": sigma, "base": 1.0, "temporal": 2.0} for sigma in (0.125, 0.875)]
    flat = flat_metrics({"step": 3, "loss": 0.5, "memory": None, "validation_bands": bands})
    assert flat == {
        "loss": 0.5,
        "validation_base/sigma_0.125": 1.0,
        "validation_temporal/sigma_0.125": 2.0,
        "validation_base/sigma_0.875": 1.0,
        "validation_temporal/sigma_0.875": 2.0,
    }
    assert validation_keys("base")[0] == "validation_base/sigma_0.125"


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"step": 1, "loss": float("nan"), "grad_norm": float("inf")})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": None, "grad_norm": None}]
