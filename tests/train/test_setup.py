import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import UsageError
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.train import train
from gridctl.train.setup import refuse_schnell

Make = Callable[..., Any]


def test_the_encoders_are_gone_before_the_transformer_comes(
    make_profile: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoders() -> int:
        gc.collect()
        names = [type(o).__name__ for o in gc.get_objects()]
        return len([n for n in names if n in ("T5EncoderModel", "CLIPTextModel")])

    alive: dict[str, int] = {}

    def progress(done: int, total: int, text: str) -> None:
        if text in ("encoding captions", "loading the transformer"):
            alive[text] = encoders() - before

    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    before = encoders()
    profile = make_profile(train__output=tmp_path / "a.safetensors", train__steps=1)
    train(profile, progress=progress)
    assert alive == {"encoding captions": 2, "loading the transformer": 0}


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
    facts = read_adapter_metadata(path)
    assert facts is not None
    assert facts.base == "./model"
