"""Checkpoints: one safetensors file each, whole or absent; only the newest few are kept.

A file holds everything a run needs to resume as if it had never stopped: the trained weights,
the optimizer's state and, in its header, the step and whatever else the run wants to know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gridctl.errors import GridctlError, InputError
from gridctl.files import atomic_file

_NAME = re.compile(r"step-(\d+)\.safetensors")
_OPTIMIZER = "optimizer"
_STRUCTURE = f"{_OPTIMIZER}.structure"  # JSON as bytes: all of the state but its tensors


def write_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, torch.Tensor],
    *,
    facts: Mapping[str, str],
    keep: int,
) -> Path:
    """Write `step-NNNNNN.safetensors`, then delete all but the newest `keep`.

    Raises InputError if the disk does not take it; the older checkpoints are then all there.
    """
    path = folder / f"step-{step:06d}.safetensors"
    with atomic_file(path, force=True) as temporary:
        own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(own, temporary, metadata={**facts, "step": str(step)})
        except SafetensorError as error:  # the library hides the disk's errors in its own
            raise InputError(
                f"{path} cannot be written ({error}); free some space on that disk."
            ) from error
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
        raise _unreadable(path, error) from error


def read_checkpoint_facts(path: Path) -> dict[str, str]:
    """The facts of a checkpoint without its tensors; InputError if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is not a readable checkpoint ({error}); delete it to resume from the one before."
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of any optimizer as flat tensors, whatever its nesting.

    Numbers, texts and the nesting itself go into one more tensor, as JSON. (8-bit AdamW of
    bitsandbytes has dicts within dicts, and counts its steps in a plain int.)

    Raises GridctlError for a state that holds something else.
    """
    tensors: dict[str, torch.Tensor] = {}
    structure = _flatten(optimizer.state_dict()["state"], _OPTIMIZER, tensors)
    text = json.dumps(structure).encode()
    return {**tensors, _STRUCTURE: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore what `optimizer_tensors` returned; other tensors are ignored.

    Raises InputError for a checkpoint of an older gridctl, which has another form.
    """
    if _STRUCTURE not in tensors:
        raise InputError(
            "the checkpoint is of an older gridctl and cannot be resumed; --force starts over, or "
            "use another output (-o)."
        )
    text = tensors[_STRUCTURE].numpy().tobytes()
    state = _unflatten(json.loads(text), tensors)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON, its tensors moved to `tensors` under `name` and what follows from it."""
    if isinstance(value, torch.Tensor):
        while name in tensors:  # 1 and "1" are two keys
            name += "'"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[k, _flatten(v, f"{name}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_flatten(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, str | int | float):
        return value
    raise GridctlError(
        f"{name} of the optimizer's state is of type {type(value).__name__}, which a checkpoint "
        'cannot hold; set memory.optimizer to another one, such as "adamw".'
    )


def _unflatten(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Undo `_flatten`."""
    match value:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": items}:
            return {k: _unflatten(v, tensors) for k, v in items}
        case {"list": items}:
            return [_unflatten(v, tensors) for v in items]
        case {"tuple": items}:
            return tuple(_unflatten(v, tensors) for v in items)
    return value


def _match(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name)
