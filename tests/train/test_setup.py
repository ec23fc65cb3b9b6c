import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import InputError, UsageError
from gridctl.flux.adapter import read_adapter_facts
from gridctl.flux.base import BaseModel
from gridctl.train import train
from gridctl.train.setup import refuse_schnell

Make = Callable[..., Any]


@pytest.mark.parametrize(
    "changed",
    [
        {"train__learning_rate": 1e-5},
        {"train__rank": 8},
        {"train__temporal_weight": 0.5},
        {"train__seed": 5},
        {"train__row_wraps": False},
        {"grid__cell": "16x16"},
        {"model__dtype": "bfloat16"},
        {"model__text_tokens": 32},
        {"generate__max_mu": 0.4},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_run_with_other_settings_is_not_taken_up(
    make_profile: Make, tmp_path: Path, changed: dict[str, Any]
) -> None:
    path = tmp_path / "a.safetensors"
    train(make_profile(train__output=path, train__steps=1))
    before = path.read_bytes()
    with pytest.raises(InputError, match="other data or settings; use --force"):
        train(make_profile(train__output=path, train__steps=1, **changed))
    assert path.read_bytes() == before


def test_a_run_with_other_data_is_not_taken_up(
    make_profile: Make, dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    data = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    train(make_profile(train__output=path, train__steps=1, train__data=data))
    moved = data.rename(tmp_path / "moved")  # where it lies does not matter
    train(make_profile(train__output=path, train__steps=1, train__data=moved))
    (moved / "clip_0001.txt").write_text("something else")
    with pytest.raises(InputError, match="other data or settings"):
        train(make_profile(train__output=path, train__steps=1, train__data=moved))


def test_another_layout_is_other_data_where_frames_are_preserved(
    make_profile: Make, tmp_path: Path
) -> None:
    """What is said of a frame alone is what the layout prompt leaves of its caption."""
    path = tmp_path / "a.safetensors"
    options = {"train__output": path, "train__steps": 1}
    train(make_profile(train__preserve_weight=1.0, **options))
    changed = make_profile(train__preserve_weight=1.0, caption__layout="free", **options)
    with pytest.raises(InputError, match="other data or settings"):
        train(changed)
    train(make_profile(**options), force=True)
    assert train(make_profile(caption__layout="free", **options)).resumed_at == 1


def test_an_adapter_of_unknown_origin_is_not_overwritten(
    make_profile: Make, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="--force"):
        train(make_profile(train__output=path, train__steps=1))
    assert path.read_bytes() == b"precious"
    train(make_profile(train__output=path, train__steps=1), force=True)
    assert read_adapter_facts(path) is not None


def test_the_encoders_are_gone_before_the_transformer_comes(
    make_profile: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = BaseModel.load_transformer
    alive: list[int] = []

    def count() -> int:
        gc.collect()
        names = [type(o).__name__ for o in gc.get_objects()]
        return len([n for n in names if n in ("T5EncoderModel", "CLIPTextModel")])

    def spy(self: BaseModel, **options: bool) -> Any:
        alive.append(count())
        return load(self, **options)

    monkeypatch.setattr(BaseModel, "load_transformer", spy)
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    before = count()
    train(make_profile(train__output=tmp_path / "a.safetensors", train__steps=1))
    assert alive == [before]


def test_schnell_is_refused_by_name_before_anything_is_read(make_profile: Make) -> None:
    profile = make_profile(model__base="black-forest-labs/FLUX.1-schnell", train__data="nowhere")
    with pytest.raises(UsageError, match="allow_distilled = true"):
        train(profile)


def test_schnell_is_refused_by_its_config_and_trained_if_the_profile_says_so(
    make_profile: Make, base: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(base.folder, tmp_path / "model"))
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "guidance_embeds": False}))
    path = tmp_path / "a.safetensors"
    options = {"model__base": str(folder), "train__output": path, "train__steps": 1}
    with pytest.raises(UsageError, match="distilled"):
        train(make_profile(**options))
    assert not path.exists()
    refuse_schnell(make_profile(train__allow_distilled=True, **options))
    train(make_profile(train__allow_distilled=True, **options))
    facts = read_adapter_facts(path)
    assert facts is not None
    assert facts.base == "./model"
