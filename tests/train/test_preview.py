"""Previews and trackers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gridctl.errors import UsageError
from gridctl.generate import draw
from gridctl.generate.job import Request
from gridctl.generate.tasks import t2v
from gridctl.train import train
from gridctl.train.preview import contact_sheet

Make = Callable[..., Any]
DRAWN = {"generate__steps": 2, "generate__seed": 3}
PROMPTS = ("a red circle moving right", "a blue square")


def same_weights(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_previews_are_what_generate_draws_and_change_nothing(
    make_profile: Make, tmp_path: Path, ema: float
) -> None:
    options = {"train__steps": 3, "train__ema": ema, "train__learning_rate": 0.02, **DRAWN}
    options |= {"generate__true_cfg_scale": 1.5, "generate__stochastic_min_sigma": 0.0}
    plain, seen = tmp_path / "plain.safetensors", tmp_path / "seen.safetensors"
    train(make_profile(train__output=plain, **options))
    watched = make_profile(
        train__output=seen, train__preview_every=2, train__preview_prompts=PROMPTS, **options
    )
    folder = train(watched).run_folder / "previews"
    assert same_weights(plain, seen)
    assert sorted(path.name for path in folder.iterdir()) == [
        name for step in (0, 2, 3) for name in (f"step-00000{step}", f"step-00000{step}.jpg")
    ]
    request = Request(
        prompts=PROMPTS,
        output=tmp_path / "drawn",
        many=True,
        profile=make_profile(model__adapter=str(seen), **options),
    )
    drawn = draw(t2v(request)).written
    for number, clip in enumerate(drawn, start=1):
        assert frames_of(folder / "step-000003" / f"{number}.mp4") == frames_of(clip)
        assert frames_of(folder / "step-000000" / f"{number}.mp4") != frames_of(clip)


def frames_of(clip: Path) -> list[bytes]:
    import av

    with av.open(str(clip)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def test_a_resumed_run_draws_no_start_and_takes_captions_for_prompts(
    make_profile: Make, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    train(make_profile(train__output=path, train__steps=1))
    options = {"train__output": path, "train__steps": 2, "train__preview_every": 1, **DRAWN}
    folder = train(make_profile(**options)).run_folder  # asked for later: the run is the same
    assert [p.name for p in sorted((folder / "previews").glob("*.jpg"))] == ["step-000002.jpg"]
    assert len(list((folder / "previews" / "step-000002").iterdir())) == 4
    again = train(make_profile(**options), force=True).run_folder
    names = [p.name for p in sorted((again / "previews").glob("*.jpg"))]
    assert names == [f"step-00000{step}.jpg" for step in (0, 1, 2)]


def test_a_contact_sheet_has_a_row_for_each_clip() -> None:
    clips = [np.full((24, 64, 256, 3), 10 * k, np.uint8) for k in (1, 2, 3)]
    sheet = contact_sheet(clips)
    assert sheet.size == (8 * 128 + 7 * 2, 3 * 32 + 2 * 2)
    pixels = np.asarray(sheet)
    assert [int(pixels[row, 500, 0]) for row in (10, 44, 78)] == [10, 20, 30]


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


def test_a_tracker_that_is_not_installed_is_named(make_profile: Make, tmp_path: Path) -> None:
    profile = make_profile(train__output=tmp_path / "a.safetensors", train__trackers=["trackio"])
    with pytest.raises(UsageError, match=r"trackio, which is missing; pip install trackio\."):
        train(profile)
    assert list(tmp_path.iterdir()) == []
