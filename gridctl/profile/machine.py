"""Whether this machine can run a profile: card, memory, disk, token and packages.

The figures are what FLUX.1's weights take and a rule of thumb, not a promise; nothing is
loaded to find out, and torch is not imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gridctl.profile.schema import Profile
from gridctl.profile.token import hub_token

GIB = 1024**3
DOWNLOAD_GIB = 34  # FLUX.1 in bfloat16: transformer 24, T5 9.5, VAE and CLIP 0.5
# What waits in main memory when layers are offloaded, by `quantize`.
OFFLOADED_GIB = {"nf4": 18, "int8": 24, "none": 36}
GATED = "black-forest-labs/"  # its FLUX.1 models want an accepted licence and a token
# A "24 GB" card shows between 22.5 and 24 GiB, depending on its model.
CARD_TOLERANCE = 0.92


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Whether a profile runs here; `reasons` says what is missing, one thing each."""

    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.reasons


@dataclass(frozen=True, kw_only=True)
class Card:
    """An NVIDIA GPU."""

    name: str
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is to run a profile with."""

    cards: tuple[Card, ...]
    memory_bytes: int
    free_disk_bytes: int
    has_token: bool
    has_bitsandbytes: bool


def this_machine() -> Machine:
    """Ask the driver, the operating system and the file system."""
    return Machine(
        cards=nvidia_cards(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_disk_bytes=shutil.disk_usage(_existing(_hub_cache())).free,
        has_token=hub_token() is not None or (_hub_home() / "token").is_file(),
        has_bitsandbytes=find_spec("bitsandbytes") is not None,
    )


def machine_fit(profile: Profile, machine: Machine | None = None) -> Fit:
    """What `machine` (this one) lacks to run `profile`."""
    machine = machine or this_machine()
    reasons = [
        _card(profile, machine),
        _memory(profile, machine),
        _disk(profile, machine),
        _token(profile, machine),
        _quantisation(profile, machine),
    ]
    return Fit(reasons=tuple(reason for reason in reasons if reason))


def nvidia_cards() -> tuple[Card, ...]:
    """Every NVIDIA GPU that its driver tells of; none without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()  # a driver that does not answer is a card that cannot be used
    cards = []
    for line in answer.stdout.splitlines():
        memory, _, name = line.partition(",")
        if memory.strip().isdigit():
            cards.append(Card(name=name.strip(), memory_mib=int(memory)))
    return tuple(cards)


def _card(profile: Profile, machine: Machine) -> str | None:
    memory = profile.memory
    if memory.device != "cuda":
        return None
    size = 0 if memory.preset in (None, "cpu") else int(str(memory.preset).removesuffix("gb"))
    needs = f"needs {size} GB of NVIDIA card memory" if size else "needs an NVIDIA card"
    if not machine.cards:
        return f"{needs}; none found"
    largest = max(machine.cards, key=lambda card: card.memory_mib)
    if largest.memory_mib >= size * 1024 * CARD_TOLERANCE:
        return None
    return f"{needs}; {largest.name} has {largest.memory_mib / 1024:.0f} GB"


def _memory(profile: Profile, machine: Machine) -> str | None:
    if profile.model.base == "tiny":
        return None
    memory = profile.memory
    on_card = memory.device == "cuda" and memory.offload == "none"
    needed = 12 if on_card else OFFLOADED_GIB[memory.quantize]
    there = machine.memory_bytes / GIB
    return f"needs {needed} GB of memory; {there:.0f} GB here" if there < needed else None


def _disk(profile: Profile, machine: Machine) -> str | None:
    if not _must_download(profile):
        return None
    free = machine.free_disk_bytes / GIB
    if free >= DOWNLOAD_GIB:
        return None
    return f"needs {DOWNLOAD_GIB} GB of disk for the download; {free:.0f} GB free"


def _token(profile: Profile, machine: Machine) -> str | None:
    gated = profile.model.base.startswith(GATED)
    if gated and _must_download(profile) and not machine.has_token:
        return "needs HF_TOKEN to download a gated model; none in the environment or .env"
    return None


def _quantisation(profile: Profile, machine: Machine) -> str | None:
    memory = profile.memory
    wanted = memory.quantize != "none" or memory.optimizer == "adamw8bit"
    if wanted and not machine.has_bitsandbytes:
        return "needs bitsandbytes; pip install 'gridctl[quant]'"
    return None


def _must_download(profile: Profile) -> bool:
    base = profile.model.base
    if base == "tiny" or Path(base).exists():
        return False
    snapshots = _hub_cache() / f"models--{base.replace('/', '--')}" / "snapshots"
    return not any(snapshots.glob("*/transformer/*.safetensors"))


def _hub_home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser()


def _hub_cache() -> Path:
    return Path(os.environ.get("HF_HUB_CACHE") or _hub_home() / "hub").expanduser()


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
