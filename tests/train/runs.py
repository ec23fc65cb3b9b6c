"""Tests look at finished runs through these."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gridctl.train.checkpoint import list_checkpoints, read_checkpoint


def log_of(adapter: Path) -> list[dict[str, Any]]:
    """The entries of metrics.jsonl of the run that wrote an adapter."""
    lines = (adapter.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two adapters are equal to the last bit."""
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def saved_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a run folder."""
    return [read_checkpoint(path)[0] for path in list_checkpoints(folder)]
