"""Needs of a profile that this machine lacks: card, memory, disk, token or packages.

The figures are what the base's weights take and a rule of thumb, not a promise. Nothing is
loaded to find out, and PyTorch is not imported.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gridctl.files import expand_home
from gridctl.machine.devices import Card, nvidia_cards
from gridctl.machine.hub import hub_token, local_base
from gridctl.models.hub import profile_family
from gridctl.profile import BUILT_IN, OPTIMIZERS, PRESETS, Profile

GIB = 1024**3
# A "24 GB" card shows between 22.5 and 24 GiB, depending on its model.
CARD_TOLERANCE = 0.92


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine has to run a profile with."""

    cards: tuple[Card, ...]
    memory_bytes: int
    free_disk_bytes: int
    has_token: bool
    has_bitsandbytes: bool
    has_torchao: bool


def this_machine() -> Machine:
    """Ask the driver, the operating system and the file system."""
    from huggingface_hub import constants, get_token

    return Machine(
        cards=nvidia_cards(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_disk_bytes=shutil.disk_usage(_existing(Path(constants.HF_HUB_CACHE))).free,
        has_token=(hub_token() or get_token()) is not None,
        has_bitsandbytes=find_spec("bitsandbytes") is not None,
        has_torchao=find_spec("torchao") is not None,
    )


def missing_for(profile: Profile, machine: Machine) -> tuple[str, ...]:
    """What `machine` lacks to run `profile`, one reason each; nothing if it runs."""
    checks = (_card, _memory, _disk, _token, _quantisation)
    reasons = (check(profile, machine) for check in checks)
    return tuple(reason for reason in reasons if reason)


def _card(profile: Profile, machine: Machine) -> str | None:
    memory = profile.memory
    if memory.device != "cuda":
        return None
    size = (PRESETS[memory.preset].card_gib or 0) if memory.preset else 0
    needs = f"needs {size} GB of NVIDIA card memory" if size else "needs an NVIDIA card"
    if not machine.cards:
        return f"{needs}; none found"
    largest = max(machine.cards, key=lambda card: card.memory_mib)
    if largest.memory_mib >= size * 1024 * CARD_TOLERANCE:
        return None
    return f"{needs}; {largest.name} has {largest.memory_mib / 1024:.0f} GB"


def _memory(profile: Profile, machine: Machine) -> str | None:
    if profile.model.base == BUILT_IN:
        return None
    memory = profile.memory
    on_card = memory.device == "cuda" and memory.offload == "none"
    needed = 12 if on_card else profile_family(profile).SIZES.offloaded_gib[memory.quantize]
    there = machine.memory_bytes / GIB
    return f"needs {needed} GB of memory; {there:.0f} GB here" if there < needed else None


def _disk(profile: Profile, machine: Machine) -> str | None:
    if not _must_download(profile):
        return None
    free, needed = machine.free_disk_bytes / GIB, profile_family(profile).SIZES.download_gib
    if free >= needed:
        return None
    return f"needs {needed} GB of disk for the download; {free:.0f} GB free"


def _token(profile: Profile, machine: Machine) -> str | None:
    gated = profile.model.base.startswith(profile_family(profile).GATED)
    if gated and _must_download(profile) and not machine.has_token:
        return "needs HF_TOKEN to download a gated model; none in the environment or .env"
    return None


def _quantisation(profile: Profile, machine: Machine) -> str | None:
    memory = profile.memory
    with_bitsandbytes = (
        memory.quantize == "nf4"
        or OPTIMIZERS[memory.optimizer].package == "bitsandbytes"
        or profile.model.text_quantize != "none"
    )
    if with_bitsandbytes and not machine.has_bitsandbytes:
        return "needs bitsandbytes; pip install bitsandbytes"
    if memory.quantize in ("int8", "fp8") and not machine.has_torchao:
        return "needs torchao; pip install torchao"
    return None


def _must_download(profile: Profile) -> bool:
    base = profile.model.base
    if base == BUILT_IN or Path(expand_home(base)).exists():
        return False
    folder = local_base(base, profile.model.revision)  # what the Hub's cache has of it
    return folder is None or not any((folder / "transformer").glob("*.safetensors"))


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
