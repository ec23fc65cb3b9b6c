"""What a machine lacks to run a profile."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from gridctl.machine.devices import Card, nvidia_cards
from gridctl.needs import GIB, Machine, missing_for, this_machine
from gridctl.profile import Profile, find_setting, load_profile

LAPTOP = Machine(
    cards=(),
    memory_bytes=8 * GIB,
    free_disk_bytes=5 * GIB,
    has_token=False,
    has_bitsandbytes=False,
    has_torchao=False,
)
WORKSTATION = Machine(
    cards=(Card(name="Small", memory_mib=2048), Card(name="L4", memory_mib=23034)),
    memory_bytes=64 * GIB,
    free_disk_bytes=500 * GIB,
    has_token=True,
    has_bitsandbytes=True,
    has_torchao=True,
)


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache; huggingface_hub reads the environment only when it is imported."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def flux() -> Profile:
    return load_profile("flux-dev-24gb").profile


def test_the_built_in_model_needs_nothing() -> None:
    assert missing_for(load_profile("tiny").profile, LAPTOP) == ()


def test_a_24_gb_card_may_report_a_little_less() -> None:
    assert missing_for(flux(), WORKSTATION) == ()


def test_everything_missing_is_reported() -> None:
    assert missing_for(flux(), LAPTOP) == (
        "needs 24 GB of NVIDIA card memory; none found",
        "needs 12 GB of memory; 8 GB here",
        "needs 34 GB of disk for the download; 5 GB free",
        "needs HF_TOKEN to download a gated model; none in the environment or .env",
        "needs bitsandbytes; pip install bitsandbytes",
    )


def test_a_card_that_is_too_small_is_named() -> None:
    (reason,) = missing_for(load_profile("flux-dev-48gb").profile, WORKSTATION)
    assert reason == "needs 48 GB of NVIDIA card memory; L4 has 22 GB"


def test_a_model_in_the_cache_needs_neither_disk_nor_token(hub: Path) -> None:
    bare = replace(WORKSTATION, free_disk_bytes=0, has_token=False)
    assert len(missing_for(flux(), bare)) == 2
    model = hub / "models--black-forest-labs--FLUX.1-dev"
    weights = model / "snapshots/abc/transformer"
    weights.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs/main").write_text("abc")
    assert len(missing_for(flux(), bare)) == 2  # a tokenizer alone, say
    (weights / "diffusion_pytorch_model-00001-of-00003.safetensors").touch()
    assert missing_for(flux(), bare) == ()


def test_a_local_model_needs_neither(tmp_path: Path) -> None:
    local = load_profile("flux-dev-24gb", {"model.base": str(tmp_path)}).profile
    assert missing_for(local, replace(WORKSTATION, free_disk_bytes=0, has_token=False)) == ()


@pytest.mark.parametrize("name", [".env", "token"])
def test_this_machine_is_measured(hub: Path, name: str) -> None:
    machine = this_machine()
    assert machine.memory_bytes > GIB // 4
    assert machine.free_disk_bytes > 0
    assert not machine.has_token
    (hub.parent / name).write_text("HF_TOKEN=x")  # ours, or that of `hf auth login`
    assert this_machine().has_token


@pytest.mark.parametrize(
    ("script", "cards"),
    [
        (
            "echo '23034, NVIDIA L4'; echo '[N/A], Odd'",
            (Card(name="NVIDIA L4", memory_mib=23034),),
        ),
        ("echo no driver; exit 9", ()),
    ],
)
def test_cards_are_read_from_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, cards: tuple[Card, ...]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_cards() == cards
    tool.unlink()
    assert nvidia_cards() == ()


@pytest.mark.parametrize(
    ("changes", "package"),
    [
        ({"memory.quantize": "fp8", "memory.optimizer": "adamw"}, "torchao"),
        ({"memory.quantize": "int8", "memory.optimizer": "adamw"}, "torchao"),
        ({"memory.preset": "48gb", "memory.optimizer": "adamw"}, None),
        (
            {
                "memory.preset": "48gb",
                "memory.optimizer": "adamw",
                "model.text_quantize": "nf4",
            },
            "bitsandbytes",
        ),
    ],
)
def test_quantisation_needs_its_package(changes: dict[str, str], package: str | None) -> None:
    card = Card(name="A100", memory_mib=81920)
    machine = replace(WORKSTATION, cards=(card,), has_bitsandbytes=False, has_torchao=False)
    expected = (f"needs {package}; pip install {package}",) if package else ()
    assert missing_for(load_profile("flux-dev-24gb", changes).profile, machine) == expected


@pytest.mark.parametrize("kind", find_setting("memory.quantize").choices)
def test_an_offloaded_base_waits_in_main_memory(kind: str) -> None:
    keys = {"memory.quantize": kind, "memory.offload": "group"}
    profile = load_profile("flux-dev-24gb", keys).profile
    small = replace(WORKSTATION, memory_bytes=8 * GIB)
    assert any("of memory; 8 GB here" in reason for reason in missing_for(profile, small))
    assert not any("of memory" in reason for reason in missing_for(profile, WORKSTATION))
