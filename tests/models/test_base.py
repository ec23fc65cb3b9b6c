import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.models.base import open_base
from gridctl.models.hub import loading

Make = Callable[..., Any]


@pytest.fixture
def copy(base: Any, tmp_path: Path) -> Path:
    """The built-in base in a folder of its own, to damage."""
    return Path(shutil.copytree(base.folder, tmp_path / "model"))


def test_the_built_in_base_is_a_whole_flux(base: Any) -> None:
    assert base.latent_channels == 16
    assert not base.is_distilled
    assert base.scheduler_config["use_dynamic_shifting"]
    assert base.dtype == torch.float32
    with base.vae() as vae:
        assert vae.dtype == torch.float32
        assert vae.config.latent_channels == 16
    assert sum(f.stat().st_size for f in base.folder.rglob("*") if f.is_file()) < 16 * 2**20


def test_a_folder_is_the_same_base(copy: Path, base: Any, make_profile: Make) -> None:
    other = open_base(make_profile(model__base=str(copy)))
    assert (other.folder, other.name) == (copy, str(copy))
    for parts in (("vae",), ("transformer",), ("tokenizer", "text_encoder")):
        assert other.fingerprint(*parts) == base.fingerprint(*parts)


def test_a_fingerprint_sees_a_changed_weight(copy: Path, make_profile: Make) -> None:
    model = open_base(make_profile(model__base=str(copy)))
    before = model.fingerprint("vae"), model.fingerprint("transformer")
    weights = next((copy / "vae").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    after = model.fingerprint("vae"), model.fingerprint("transformer")
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_dtype_is_the_profiles(make_profile: Make) -> None:
    profile = make_profile(model__dtype="bfloat16")
    transformer = open_base(profile).load_transformer()
    assert {p.dtype for p in transformer.parameters()} == {torch.bfloat16}
    assert not [p for p in transformer.parameters() if p.requires_grad]


@pytest.mark.parametrize("name", ["no/such/folder", "./nowhere", "nonsense", "/a/b", "tests"])
def test_what_is_no_model_says_what_one_is(make_profile: Make, name: str) -> None:
    with pytest.raises(UsageError, match="is no model") as error:
        open_base(make_profile(model__base=name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "load"),
    [
        ("vae", lambda base: base.vae().__enter__()),
        ("transformer", lambda base: base.load_transformer()),
        ("text_encoder", lambda base: base.text_encoders().__enter__()),
        ("text_encoder_2", lambda base: base.text_encoders().__enter__()),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_folder_is_one_line(
    copy: Path, make_profile: Make, part: str, load: Callable[[Any], object], damage: str
) -> None:
    weights = next((copy / part).glob("*.safetensors"))
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot be loaded as a FLUX\.1 pipeline") as error:
        load(open_base(make_profile(model__base=str(copy))))
    assert "\n" not in str(error.value)


def test_a_missing_config_is_one_line(copy: Path, make_profile: Make) -> None:
    (copy / "transformer" / "config.json").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        _ = open_base(make_profile(model__base=str(copy))).is_distilled


def test_weights_that_are_a_pickle_are_not_loaded(copy: Path, make_profile: Make) -> None:
    for part, name in [
        ("transformer", "diffusion_pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model.bin"),
        ("text_encoder", "pytorch_model.bin"),
    ]:
        weights = next((copy / part).glob("*.safetensors"))
        torch.save(load_file(weights), copy / part / name)
        weights.unlink()
    model = open_base(make_profile(model__base=str(copy)))
    with pytest.raises(InputError, match="cannot be loaded"):
        model.load_transformer()
    with pytest.raises(InputError, match="cannot be loaded"), model.vae():
        pass
    with pytest.raises(InputError, match="cannot be loaded"), model.text_encoders():
        pass


def test_a_gpu_that_is_not_there(make_profile: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="PyTorch finds none"):
        open_base(make_profile(memory__device="cuda"))


def test_a_hub_model_without_a_network(make_profile: Make) -> None:
    with pytest.raises(GridctlError, match="is not on this machine and the Hub cannot") as error:
        open_base(make_profile(model__base="gridctl-tests/no-such-model"))
    assert "\n" not in str(error.value)


def test_an_unreachable_hub_ends_with_one_line_and_soon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process of its own: the libraries read these variables when they are imported."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    base = ["--base", "black-forest-labs/FLUX.1-dev", "--profile", "tiny"]
    started = time.monotonic()
    end = subprocess.run(
        [sys.executable, "-m", "gridctl", "generate", "image", "a star", "-o", "star.png", *base],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - started < 120
    assert end.returncode == 1
    assert end.stdout == ""
    errors = [line for line in end.stderr.splitlines() if not line.startswith("Profile")]
    assert len(errors) == 1
    assert errors[0].startswith("gridctl: black-forest-labs/FLUX.1-dev is not on this machine")
    assert "--profile tiny" in errors[0]
    assert not list(tmp_path.glob("star*"))


def test_another_pipeline_than_flux_is_refused(make_profile: Any, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    with pytest.raises(UsageError, match="is a pipeline of WanPipeline"):
        open_base(make_profile(model__base=str(tmp_path)))


def test_a_full_gpu_is_not_blamed_on_the_model_folder() -> None:
    with pytest.raises(torch.OutOfMemoryError), loading("folder"):
        raise torch.OutOfMemoryError
