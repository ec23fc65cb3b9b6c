"""NVIDIA cards, as their driver reports them; PyTorch is not imported."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Card:
    """An NVIDIA GPU."""

    name: str
    memory_mib: int


def nvidia_cards() -> tuple[Card, ...]:
    """Every NVIDIA GPU that the driver lists; none without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()  # if the driver does not answer, the card cannot be used
    cards = []
    for line in answer.stdout.splitlines():
        memory, _, name = line.partition(",")
        if memory.strip().isdigit():
            cards.append(Card(name=name.strip(), memory_mib=int(memory)))
    return tuple(cards)
