"""Checkpoints: one safetensors file each, whole or absent, the newest few kept.

A file holds everything a run needs to go on as if it had not stopped: the trained weights,
the optimizer's state and, in its header, the step and what else the run wants to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gridctl.errors import InputError
from gridctl.files import atomic_file

_NAME = re.compile(r"step-(\d+)\.safetensors")


def write_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, torch.Tensor],
    *,
    facts: Mapping[str, str],
    keep: int,
) -> Path:
    """Write `step-NNNNNN.safetensors`; only then delete all but the newest `keep`."""
    path = folder / f"step-{step:06d}.safetensors"
    with atomic_file(path, force=True) as temporary:
        own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(own, temporary, metadata={**facts, "step": str(step)})
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    found = [(int(match[1]), path) for path in folder.glob("*") if (match := _match(path))]
    return [path for _, path in sorted(found)]


def read_checkpoint(path: Path) -> tuple[int, dict[str, torch.Tensor], dict[str, str]]:
    """(step, tensors, facts) of a checkpoint; InputError if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        return int(facts.pop("step")), tensors, facts
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is not a checkpoint that can be read ({error}); delete it to go on from "
            "the one before."
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state by flat names, for any optimizer that keeps tensors and numbers."""
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` took out."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        prefix, _, rest = key.partition(".")
        if prefix == "optimizer":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _match(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name)
