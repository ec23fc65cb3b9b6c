"""Models of FLUX.2 that are not klein 4B are refused with one line, before anything is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import InputError, UsageError
from gridctl.models import flux1, flux2
from gridctl.models.base import open_base
from gridctl.models.hub import find_base, find_family, weight_folders

Make = Callable[..., Any]


@pytest.fixture
def copy(klein: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(klein, tmp_path / "copy"))


def change(path: Path, **values: object) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **values}), encoding="utf-8")


def test_klein_is_found_by_its_folder_or_its_name(klein: Path) -> None:
    assert find_family("whatever", klein) is flux2
    assert find_family("black-forest-labs/FLUX.2-klein-base-4B") is flux2
    assert find_family("black-forest-labs/FLUX.1-dev") is flux1
    assert weight_folders(flux2) == ("transformer", "vae", "tokenizer", "text_encoder")


def test_the_distilled_model_says_so(copy: Path, make_profile: Make) -> None:
    assert not open_base(make_profile(model__base=str(copy))).is_distilled
    change(copy / "model_index.json", is_distilled=True)
    assert open_base(make_profile(model__base=str(copy))).is_distilled
    assert flux2.is_distilled("black-forest-labs/FLUX.2-klein-4B", None)
    assert not flux2.is_distilled("black-forest-labs/FLUX.2-klein-base-4B", None)


@pytest.mark.parametrize("name", ["FLUX.2-dev", "FLUX.2-klein-9B", "FLUX.2-klein-base-9B"])
def test_other_models_are_refused_by_name(name: str) -> None:
    """Before their 60 GB are downloaded."""
    with pytest.raises(UsageError, match=f"{name} is not FLUX.2-klein-4B"):
        find_family(f"black-forest-labs/{name}")


@pytest.mark.parametrize(
    ("part", "values", "line"),
    [
        ("transformer", {"guidance_embeds": True}, "is FLUX.2-dev"),
        ("text_encoder", {"model_type": "mistral3"}, "has the text encoder mistral3"),
        ("text_encoder", {"hidden_size": 48}, "has a Qwen3 of width 48, and its transformer takes"),
        ("text_encoder", {"num_hidden_layers": 26}, "has a Qwen3 of 26 layers"),
    ],
)
def test_other_models_are_refused_by_their_files(
    copy: Path, part: str, values: dict[str, object], line: str
) -> None:
    change(copy / part / "config.json", **values)
    with pytest.raises(UsageError, match=line) as error:
        find_base(str(copy))
    assert "\n" not in str(error.value)


def test_the_9b_model_is_refused_by_its_width(copy: Path) -> None:
    change(copy / "transformer" / "config.json", joint_attention_dim=3 * 4096)
    change(copy / "text_encoder" / "config.json", hidden_size=4096)
    with pytest.raises(UsageError, match=r"is FLUX\.2-klein-9B"):
        find_base(str(copy))


def test_a_single_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flux-2-klein-4b-fp8.safetensors"
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="is a single file, and a base is a whole folder"):
        find_base(str(path))


def test_an_incomplete_folder_is_known_and_reported(copy: Path, make_profile: Make) -> None:
    (copy / "text_encoder" / "config.json").unlink()
    base = open_base(make_profile(model__base=str(copy)))
    assert base.family is flux2
    with pytest.raises(InputError, match="cannot be loaded"), base.text_encoders():
        pass
