import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import InputError
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.progress import silent
from gridctl.train import train
from gridctl.train.resume import RunInputs
from gridctl.train.setup import set_up

Make = Callable[..., Any]


def inputs(*grids: tuple[str, str, str], **settings: Any) -> RunInputs:
    return RunInputs(settings=settings, grids=grids)


def test_a_fingerprint_is_a_hash_of_settings_and_data() -> None:
    """Without the names of files. Checkpoints of earlier versions hold it."""
    one = RunInputs(
        settings={"train.rank": 8, "grid": "2x3"},
        grids=[("a.png", "image1", "captions1"), ("b.png", "image2", "captions2")],
    )
    text = '[{"grid": "2x3", "train.rank": 8}, [["image1", "captions1"], ["image2", "captions2"]]]'
    assert one.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_differences_by_hand() -> None:
    a, b, c = ("a", "1", "1"), ("b", "2", "2"), ("c", "3", "3")
    before = inputs(a, b, rank=4, seed=1)
    assert inputs(a, b, rank=8, seed=1).differences(before) == "rank 4 → 8"
    assert inputs(a, b, rank=4).differences(before) == "seed 1 → unset"
    assert inputs(a, b, rank=4, seed=1, dtype="x").differences(before) == "dtype unset → x"
    same = {"rank": 4, "seed": 1}
    assert inputs(a, b, c, **same).differences(before) == "1 grid added (c)"
    assert inputs(b, **same).differences(before) == "1 grid removed (a)"
    assert inputs(("a", "9", "1"), b, **same).differences(before) == "1 image changed (a)"
    changed = inputs(("a", "1", "9"), ("b", "2", "9"), **same)
    assert changed.differences(before) == "2 captions changed (a, b)"
    assert inputs(b, a, **same).differences(before) == "the grids in another order"
    five = [(name, "0", "0") for name in "vwxyz"]
    assert inputs(a, b, *five, **same).differences(before) == "5 grids added (v, w, x, …)"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one = RunInputs(settings={"train.keep": 0.5}, grids=[("ä.png", "1", "2")])
    one.write(tmp_path, {"steps": 3})
    again = RunInputs.read(tmp_path)
    assert again is not None
    assert again.fingerprint == one.fingerprint
    assert RunInputs.read(tmp_path / "nowhere") is None


FREE = {
    "train__output": "other.safetensors", "train__steps": 9, "train__checkpoint_every": 7,
    "train__keep_checkpoints": 9, "train__log_every": 3, "train__save_dtype": "float16",
    "train__preview_every": 5, "train__preview_prompts": ["a"], "train__trackers": ["wandb"],
    "train__keep_patterns": ["first"],  # of no meaning while train.keep is 0
    "memory__gradient_checkpointing": True, "generate__steps": 7,
}  # fmt: skip
FIXED = {
    "train__batch_size": 3, "train__accumulate": 2, "train__warmup_steps": 1, "train__rank": 5,
    "train__lora_alpha": 3.0, "train__base_weight": 2.0, "train__temporal_weight": 0.2,
    "train__preserve_weight": 0.5, "train__keep": 0.5, "train__row_wraps": False,
    "train__ema": 0.5, "train__max_grad_norm": 2.0, "train__weight_decay": 0.5,
    "train__seed": 1, "train__learning_rate": 1.0, "train__caption_dropout": 0.5,
    "train__logit_mean": 0.5, "train__logit_std": 0.5, "train__start": "tiny-grid",
    "memory__optimizer": "adamw8bit", "memory__quantize": "int8", "model__dtype": "bfloat16",
    "model__text_tokens": 32, "generate__max_mu": 0.4, "grid__cell": "16x16",
}  # fmt: skip


@pytest.fixture(scope="module")
def fingerprint(make_profile: Make) -> Callable[..., str]:
    def of(**keys: Any) -> str:
        return set_up(
            make_profile(**{"train__rank": 64, **keys}), progress=silent
        ).inputs.fingerprint

    return of


def test_settings_that_change_weights_count(fingerprint: Callable[..., str]) -> None:
    """Each alone makes another run, and no other setting does."""
    plain = fingerprint()
    assert [key for key, value in FREE.items() if fingerprint(**{key: value}) != plain] == []
    assert [key for key, value in FIXED.items() if fingerprint(**{key: value}) == plain] == []
    kept = fingerprint(train__keep=0.5)
    assert fingerprint(train__keep=0.5, train__keep_patterns=["first"]) != kept


def test_the_last_stage_may_grow(fingerprint: Callable[..., str]) -> None:
    """Unless it has a ramp, whose values depend on its length."""

    def of(first: int, last: int, **keys: Any) -> str:
        return fingerprint(train__stage=[{"steps": first}, {"steps": last, **keys}])

    assert of(2, 3) == of(2, 9)
    assert of(2, 3) != of(3, 3)
    assert of(2, 3) != of(2, 3, temporal_weight=0.7)
    ramp = {"learning_rate_end": 0.0}
    assert of(2, 3, **ramp) != of(2, 9, **ramp)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"train__learning_rate": 1e-5}, "train.learning_rate 0.002 → 1e-05"),
        ({"train__rank": 8}, "train.rank 4 → 8"),
        ({"train__row_wraps": False}, "train.row_wraps True → False"),
        ({"grid__cell": "16x16"}, "grid 2x3 cells of 32x32, row-major → 2x3 cells of 16x16, row-"),
        ({"model__text_tokens": 32}, "model.text_tokens unset → 32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_with_other_settings_is_not_resumed(
    make_profile: Make, copied: Path, changed: dict[str, Any], told: str
) -> None:
    before = copied.read_bytes()
    with pytest.raises(InputError, match="other data or settings") as error:
        train(make_profile(train__output=copied, train__steps=3, **changed))
    assert f"({told}" in str(error.value)
    assert str(error.value).endswith("use another output (-o), or --force to start over.")
    assert "\n" not in str(error.value)
    assert copied.read_bytes() == before


def test_a_run_with_other_data_is_not_resumed(
    make_profile: Make, dataset: Path, copied: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))  # where it is does not matter
    profile = make_profile(train__output=copied, train__steps=3, train__data=moved)
    assert train(profile).resumed_at == 3
    (moved / "clip_0001.txt").write_text("something else")
    (moved / "clip_0002.txt").write_text("something else")
    (moved / "clip_0003.txt").unlink()
    (moved / "clip_0003.png").unlink()
    shutil.copy(moved / "clip_0004.png", moved / "clip_0005.png")
    shutil.copy(moved / "clip_0004.txt", moved / "clip_0005.txt")
    shutil.copy(moved / "clip_0001.png", moved / "clip_0004.png")
    with pytest.raises(InputError, match="other data or settings") as error:
        train(profile)
    assert (
        "(1 image changed (clip_0004.png); 2 captions changed (clip_0001.png, clip_0002.png); "
        "1 grid added (clip_0005.png); 1 grid removed (clip_0003.png))"
    ) in str(error.value)


def test_a_layout_counts_where_frames_are_preserved(fingerprint: Callable[..., str]) -> None:
    """A single frame is trained by what the layout prompt leaves of its caption."""
    free = {"caption__layout": "free"}
    assert fingerprint(**free) == fingerprint()
    preserved = {"train__preserve_weight": 1.0}
    assert fingerprint(**free, **preserved) != fingerprint(**preserved)


def test_names_of_grids_do_not_count(make_profile: Make) -> None:
    """A grid of two stages is there twice, with each stage's number in its name."""
    stages = [{"steps": 1}, {"steps": 1}]
    found = set_up(make_profile(train__stage=stages), progress=silent).inputs
    names = [grid[0] for grid in found.grids]
    assert names == [f"{stage}: clip_000{k}.png" for stage in (1, 2) for k in (1, 2, 3, 4)]
    assert [len(part) for part in found.grids[0][1:]] == [16, 16]
    swapped = replace(found, grids=[*found.grids[4:], *found.grids[:4]])
    assert swapped.fingerprint == found.fingerprint  # names do not count


def test_a_run_of_an_older_version_is_resumed(make_profile: Make, copied: Path) -> None:
    """It has no run.json, so its settings cannot be compared; its layers must fit."""
    run_file = copied.with_suffix(".run") / "run.json"
    run_file.unlink()
    assert train(make_profile(train__output=copied, train__steps=3)).resumed_at == 3
    run_file.unlink()
    with pytest.raises(InputError, match="other layers or another rank"):
        train(make_profile(train__output=copied, train__steps=4, train__rank=8))


def test_an_adapter_from_elsewhere_is_not_overwritten(make_profile: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="--force"):
        train(make_profile(train__output=path, train__steps=1))
    assert path.read_bytes() == b"precious"
    train(make_profile(train__output=path, train__steps=1), force=True)
    assert read_adapter_metadata(path) is not None


@pytest.mark.parametrize("damaged", ["", "{", "[1]", '{"settings": [], "grids": [["a"]]}'])
def test_a_damaged_run_file_loses_nothing(make_profile: Make, copied: Path, damaged: str) -> None:
    """Its checkpoints say whether the run is the same; run.json only says what differs."""
    run_file = copied.with_suffix(".run") / "run.json"
    whole = run_file.read_text()
    run_file.write_text(damaged)
    with pytest.raises(InputError, match=r"other data or settings .run\.json cannot be") as e:
        train(make_profile(train__output=copied, train__steps=3, train__rank=8))
    assert str(e.value).endswith("another output (-o), or the settings and data of that run.")
    assert "--force" not in str(e.value)  # that would delete good checkpoints
    result = train(make_profile(train__output=copied, train__steps=3, train__checkpoint_every=1))
    assert result.resumed_at == 3
    assert run_file.read_text() == whole


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder_2"])
def test_other_weights_of_a_base_make_another_run(
    fingerprint: Callable[..., str], base: Any, tmp_path: Path, part: str
) -> None:
    folder = Path(shutil.copytree(base.folder, tmp_path / "model"))
    before = fingerprint(model__base=str(folder))
    weights = next((folder / part).glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert fingerprint(model__base=str(folder)) != before
