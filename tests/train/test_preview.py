"""Previews, the report and trackers: what is seen of a run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gridctl.errors import InputError, UsageError
from gridctl.generate import draw
from gridctl.generate.drawing import Request
from gridctl.generate.tasks import t2v
from gridctl.train import report, train
from gridctl.train.preview import contact_sheet
from gridctl.train.report import judge

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
    drawn = draw(t2v.prepare(request)).written
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


def test_the_report_needs_nothing_else(make_profile: Make, dataset: Path, tmp_path: Path) -> None:
    import shutil

    data = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    (data / "val").mkdir()
    for suffix in (".png", ".txt"):
        (data / f"clip_0004{suffix}").rename(data / "val" / f"clip_0004{suffix}")
    path = tmp_path / "a.safetensors"
    profile = make_profile(
        train__output=path,
        train__data=data,
        train__steps=3,
        train__checkpoint_every=1,
        train__preview_every=3,
        train__preview_prompts=["a <red> circle"],
        **DRAWN,
    )
    page = (train(profile).run_folder / "report.html").read_text()
    titles = re.findall("<figcaption>(.*?)</figcaption>", page)
    for title in ("Training loss, smoothed", "Validation loss", "step 0", "step 3"):
        assert title in titles
    assert "Validation, temporal loss by noise level" in titles
    assert page.count("data:image/jpeg;base64,") == 2
    assert "3 grids to train on, 1 to validate on" in page
    assert "train.rank = 4" in page
    assert "caption.layout" in page
    assert "pack.format" not in page  # of another command
    assert "a &lt;red&gt; circle" in page
    assert "torch " in page
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert str(tmp_path) not in page
    before = page
    assert report(profile).read_text() == before
    with pytest.raises(InputError, match="holds no run"):
        report(make_profile(train__output=tmp_path / "nowhere.safetensors"))


def entries(losses: list[float | None], validation: list[float] | None = None) -> list[Any]:
    log = [{"step": k, "loss": loss, "grad_norm": 1.0} for k, loss in enumerate(losses, start=1)]
    for entry, value in zip(log, validation or [], strict=False):
        entry["validation"] = value
    return log


@pytest.mark.parametrize(
    ("log", "good", "words"),
    [
        ([], False, "No step"),
        (entries([0.5, None]), False, "not a finite number"),
        (entries([0.5, 0.4, 0.3]), True, "Training loss 0.5000 at the start, 0.3000 now"),
        (entries([0.5, 0.5, 0.6]), False, "Training loss 0.5000 at the start, 0.6000 now"),
        (entries([0.5] * 3, [0.5, 0.4, 0.3]), True, "0.5000 at step 1, 0.3000 now."),
        (entries([0.5] * 3, [0.5, 0.3, 0.4]), False, "best, 0.3000, at step 2 and has risen"),
    ],
)
def test_the_report_says_whether_the_run_went_well(log: Any, good: bool, words: str) -> None:
    verdict, text = judge(log, total=10)
    assert verdict is good
    assert words in text


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
