import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gridctl.diffusion.flow import default_mu, schedule
from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.geometry import Grid
from gridctl.models import flux1
from gridctl.models.base import open_base
from gridctl.models.hub import loading

Make = Callable[..., Any]


@pytest.fixture
def copy(base: Any, tmp_path: Path) -> Path:
    """The built-in base in a folder of its own, to damage."""
    return Path(shutil.copytree(base.folder, tmp_path / "model"))


def test_the_built_in_base_is_a_whole_flux(base: Any) -> None:
    assert base.family is flux1
    assert not base.is_distilled
    assert base.takes_guidance
    assert base.scheduler_config["use_dynamic_shifting"]
    assert base.dtype == torch.float32
    with base.vae() as vae:
        assert vae.vae.dtype == torch.float32
        assert vae.vae.config.latent_channels == 16
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
    with pytest.raises(UsageError, match="is not a model") as error:
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
    with pytest.raises(InputError, match=r"cannot be loaded as a diffusers pipeline") as error:
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


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)


def test_encoding_is_per_frame_and_without_chance(base: Any, frames: np.ndarray) -> None:
    with base.vae() as vae:
        latents = vae.encode(frames, batch=8)
        again = vae.encode(frames, batch=8)
        by_two = vae.encode(frames, batch=2)
        alone = torch.cat([vae.encode(frames[k : k + 1], batch=1) for k in range(5)])
        pixels = torch.from_numpy(frames[:1]).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            raw = vae.vae.encode(pixels).latent_dist.mode()
    assert latents.shape == (5, 64, 2, 3)
    assert torch.equal(latents, again)
    assert torch.allclose(latents, by_two, atol=1e-4)
    assert torch.allclose(latents, alone, atol=1e-4)
    assert torch.allclose(latents[:1], flux1.to_latents(vae.vae, raw), atol=1e-4)


def test_decoding_undoes_scale_and_shape(base: Any, frames: np.ndarray) -> None:
    with base.vae() as vae:
        latents = vae.encode(frames, batch=8)
        decoded = vae.decode(latents, batch=2)
        with torch.no_grad():
            raw = vae.vae.decode(flux1.to_codes(vae.vae, latents)).sample
    assert decoded.shape == frames.shape
    assert decoded.dtype == np.uint8
    naive = ((raw.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(naive - decoded).max() <= 0.51


def test_noise_is_the_seeds(base: Any) -> None:
    """Fresh at each call, in the shape of the grid's tokens."""
    grid = Grid(rows=2, cols=3, cell=(32, 48))
    draw, same = base.noise_source(grid, 5), base.noise_source(grid, 5)
    first, second = draw(), draw()
    assert first.shape == (1, 64, 6, 6)
    assert torch.equal(first, same())
    assert torch.equal(second, same())
    assert not torch.equal(first, second)
    assert not torch.equal(first, base.noise_source(grid, 6)())
    wide = Grid(rows=1, cols=3, cell=(16, 32))
    assert base.noise_source(wide, 5)().shape == (1, 64, 2, 3)


def test_mu_is_the_familys_and_can_be_capped(base: Any) -> None:
    wanted = default_mu(base.scheduler_config, 6144)
    assert base.mu(6144) == base.mu(6144, cap=2.0) == wanted
    assert base.mu(6144, cap=1.2) == 1.2


def test_sampling_has_the_steps_and_the_shift_of_a_grid(base: Any, make_profile: Make) -> None:
    grid = Grid(rows=4, cols=6, cell=(256, 256))
    settings = make_profile(generate__steps=3, generate__max_mu=1.2).generate
    assert base.sampling(settings, grid).sigmas == tuple(schedule(3, 1.2))
    settings = make_profile(generate__steps=3).generate
    sampling = base.sampling(settings, grid, keep_clean=True)
    assert sampling.sigmas == tuple(schedule(3, default_mu(base.scheduler_config, 6144)))
    assert sampling.keep_clean
