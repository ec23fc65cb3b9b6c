import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import InputError
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.train import train

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"train__learning_rate": 1e-5}, "train.learning_rate 0.002 → 1e-05"),
        ({"train__rank": 8}, "train.rank 4 → 8"),
        ({"train__temporal_weight": 0.5}, "train.temporal_weight 0.1 → 0.5"),
        ({"train__seed": 5}, "train.seed 0 → 5"),
        ({"train__row_wraps": False}, "train.row_wraps True → False"),
        ({"train__keep": 0.5}, "train.keep 0.0 → 0.5"),
        ({"grid__cell": "16x16"}, "grid 2x3 cells of 32x32, row-major → 2x3 cells of 16x16, row-"),
        ({"model__dtype": "bfloat16"}, "model.dtype float32 → bfloat16"),
        ({"model__text_tokens": 32}, "model.text_tokens unset → 32"),
        ({"generate__max_mu": 0.4}, "generate.max_mu unset → 0.4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_with_other_settings_is_not_resumed(
    make_profile: Make, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    path = tmp_path / "a.safetensors"
    train(make_profile(train__output=path, train__steps=1))
    before = path.read_bytes()
    with pytest.raises(InputError, match="other data or settings") as error:
        train(make_profile(train__output=path, train__steps=1, **changed))
    assert f"({told}" in str(error.value)
    assert str(error.value).endswith("use another output (-o), or --force to start over.")
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_a_run_with_other_data_is_not_resumed(
    make_profile: Make, dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    data = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    train(make_profile(train__output=path, train__steps=1, train__data=data))
    moved = data.rename(tmp_path / "moved")  # where it is does not matter
    profile = make_profile(train__output=path, train__steps=1, train__data=moved)
    train(profile)
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


def test_another_layout_is_other_data_where_frames_are_preserved(
    make_profile: Make, tmp_path: Path
) -> None:
    """A single frame is trained by what the layout prompt leaves of its caption."""
    path = tmp_path / "a.safetensors"
    options = {"train__output": path, "train__steps": 1}
    train(make_profile(train__preserve_weight=1.0, **options))
    changed = make_profile(train__preserve_weight=1.0, caption__layout="free", **options)
    with pytest.raises(InputError, match="4 captions changed"):
        train(changed)
    train(make_profile(**options), force=True)
    assert train(make_profile(caption__layout="free", **options)).resumed_at == 1


def test_a_run_of_an_older_version_is_resumed(make_profile: Make, tmp_path: Path) -> None:
    """It has no run.json, so its settings cannot be compared; its layers must fit."""
    path = tmp_path / "a.safetensors"
    folder = train(make_profile(train__output=path, train__steps=1)).run_folder
    (folder / "run.json").unlink()
    assert train(make_profile(train__output=path, train__steps=2)).resumed_at == 1
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match="other layers or another rank"):
        train(make_profile(train__output=path, train__steps=3, train__rank=8))


def test_an_adapter_of_unknown_origin_is_not_overwritten(
    make_profile: Make, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="--force"):
        train(make_profile(train__output=path, train__steps=1))
    assert path.read_bytes() == b"precious"
    train(make_profile(train__output=path, train__steps=1), force=True)
    assert read_adapter_metadata(path) is not None


def test_a_damaged_run_file_loses_nothing(make_profile: Make, tmp_path: Path) -> None:
    """Its checkpoints say whether the run is the same; run.json only says what differs."""
    path = tmp_path / "a.safetensors"
    folder = train(make_profile(train__output=path, train__steps=2)).run_folder
    whole, run_file = (folder / "run.json").read_text(), folder / "run.json"
    for damaged in ("", "{", whole[:100], "[1]", '{"settings": [], "grids": [["a"]]}'):
        run_file.write_text(damaged)
        with pytest.raises(InputError, match=r"other data or settings .run\.json cannot be") as e:
            train(make_profile(train__output=path, train__steps=2, train__rank=8))
        assert str(e.value).endswith("another output (-o), or the settings and data of that run.")
        assert "--force" not in str(e.value)  # that would delete good checkpoints
        assert train(make_profile(train__output=path, train__steps=2)).resumed_at == 2
        assert run_file.read_text() == whole
