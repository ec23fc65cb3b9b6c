import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.errors import InputError
from gridctl.train import report, train
from gridctl.train.preview import contact_sheets
from gridctl.train.report import _noise, judge, write_report

Make = Callable[..., Any]
# Falls by 0.05 a validation to 0.30 at step 5, and rises by 0.02 to 0.40 at step 10.
OVERFITTING = [0.50, 0.45, 0.40, 0.35, 0.30, 0.32, 0.34, 0.36, 0.38, 0.40]


def test_previews_that_are_links_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "id_rsa").write_text("secret")
    run = tmp_path / "a.run"
    (run / "previews").mkdir(parents=True)
    (run / "previews" / "step-2.jpg").write_bytes(b"a picture")
    (run / "previews" / "step-4.jpg").symlink_to(tmp_path / "id_rsa")
    (run / "previews" / "step-6.jpg").symlink_to("step-2.jpg")
    assert sorted(contact_sheets(run)) == [2, 6]


def test_the_report_needs_nothing_else(make_profile: Make, dataset: Path, tmp_path: Path) -> None:
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
        generate__steps=2,
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


def test_a_report_without_its_run_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run to report on; train first"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_bytes(b"")
    with pytest.raises(InputError, match=r"run\.json cannot be read .*writes it again") as error:
        write_report(tmp_path)
    assert "\n" not in str(error.value)
    assert "--force" not in str(error.value)  # that would delete the checkpoints


def entries(losses: Sequence[float | None], validation: Sequence[float] = ()) -> list[Any]:
    log = [{"step": k, "loss": loss, "grad_norm": 1.0} for k, loss in enumerate(losses, start=1)]
    for entry, value in zip(log, validation, strict=False):
        entry["validation"] = value
    return log


def validations(values: Sequence[float]) -> list[Any]:
    return entries([0.5] * len(values), values)


@pytest.mark.parametrize(
    ("log", "tone", "words"),
    [
        ([], "open", "No step"),
        (entries([0.5, None]), "bad", "not a finite number"),
        (entries([0.5, 0.4, 0.3]), "open", "0.5000 at the start, 0.3000 now. It is too early"),
        (entries([0.5, 0.5, 0.6]), "open", "0.5000 at the start, 0.6000 now. It is too early"),
        (entries([0.5] * 10 + [0.3] * 10), "good", "0.5000 at the start, 0.3000 now. Without"),
        (entries([0.3] * 10 + [0.5] * 10), "bad", "0.3000 at the start, 0.5000 now. Without"),
        (entries([0.3, 0.9] * 10 + [0.6]), "open", "no change beyond its noise"),
        (validations([0.1148, 0.1090, 0.1076]), "open", "0.1148 at step 1, 0.1076 now. It is too"),
        (validations([0.1, 0.2, 0.3, 0.4, 0.5]), "open", "takes 6 validations, and there are 5."),
        (validations([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), "good", "lowest was 0.1000, at step 6."),
        (validations([0.3, 0.32] * 5), "open", "no change beyond its noise"),
        (validations(OVERFITTING), "bad", "lowest, 0.3000, at step 5 and has risen since"),
        (validations(OVERFITTING[:7]), "good", "lowest was 0.3000, at step 5."),
    ],
)
def test_the_verdict_of_a_report(log: Any, tone: str, words: str) -> None:
    verdict, text = judge(log, total=10, checkpoints=())
    assert verdict == tone
    assert words in text
    assert ("overfits" in text) == ("has risen since" in text)


def test_a_rise_within_noise_is_no_overfitting() -> None:
    """The same rise: once on a smooth curve, once beside noise of its own size."""
    noisy = [v + (-1) ** k * 0.03 for k, v in enumerate(OVERFITTING)]
    assert judge(validations(OVERFITTING), total=10, checkpoints=())[0] == "bad"
    assert judge(validations(noisy), total=10, checkpoints=())[0] != "bad"


def test_noise_is_what_a_curve_does_not_explain() -> None:
    assert _noise([0, 1, 0, 1, 0]) == pytest.approx(1.48 * 2 / math.sqrt(6))
    assert _noise([5, 4, 3, 2, 1]) == 0
    generator = torch.Generator().manual_seed(0)
    normal = 0.5 * torch.randn(4000, generator=generator)
    curve = torch.linspace(-1, 1, 4000).square()
    assert _noise((curve + normal).tolist()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("checkpoints", "advice"),
    [
        ((2, 4, 5, 10), "--export 5 writes the adapter of the best checkpoint that is left"),
        ((2, 6, 10), "--export 6 writes the adapter of the best checkpoint that is left (0.3200)."),
        ((1, 2, 9, 10), "No checkpoint from before the rise is left"),
        ((), "No checkpoint from before the rise is left"),
    ],
)
def test_advice_names_a_checkpoint_that_is_there(checkpoints: Any, advice: str) -> None:
    _, text = judge(validations(OVERFITTING), total=10, checkpoints=checkpoints)
    assert advice in text


def test_a_loss_that_only_rose_is_no_overfitting() -> None:
    log = [{"step": 0, "validation": 0.1}, *validations([0.2, 0.3, 0.4, 0.5, 0.6])]
    tone, text = judge(log, total=10, checkpoints=(1, 2, 3))
    assert (tone, "training has only raised it" in text) == ("bad", True)


def test_a_short_run_gets_no_verdict(make_profile: Make, dataset: Path, tmp_path: Path) -> None:
    """As the tutorial's: a few steps, and validation before and after them."""
    val = Path(shutil.copytree(dataset, tmp_path / "vidgrid")) / "val"
    val.mkdir()
    for suffix in (".png", ".txt"):
        (val.parent / f"clip_0004{suffix}").rename(val / f"clip_0004{suffix}")
    options = {"train__data": val.parent, "train__steps": 2, "train__learning_rate": 0.02}
    folder = train(make_profile(train__output=tmp_path / "a.safetensors", **options)).run_folder
    page = (folder / "report.html").read_text()
    assert 'class="open"' in page
    assert "It is too early for a verdict" in page
    assert len(json.loads((folder / "run.json").read_text())["about"]["datasets"]) == 1
