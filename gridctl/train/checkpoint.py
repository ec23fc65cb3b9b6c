"""Checkpoints: what a run needs to resume as if it had never stopped, and the adapters from them.

A checkpoint is one safetensors file, whole or absent: the trained weights, their moving average
and the optimizer's state, and in its header the step and the adapter's metadata. Only the newest
few are kept.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gridctl.errors import GridctlError, InputError
from gridctl.files import atomic_file, refuse_overwrite
from gridctl.lora.adapters import (
    checkpoint_facts,
    load_adapter,
    lora_tensors,
    read_adapter_metadata,
    save_adapter,
    write_adapter,
)
from gridctl.machine.devices import torch_dtype
from gridctl.models.transformer import unwrap
from gridctl.profile import Profile
from gridctl.train.metrics import METRICS_FILE, keep_metrics
from gridctl.train.preview import PREVIEWS
from gridctl.train.resume import RUN_FILE, RunInputs
from gridctl.train.setup import Run, Setup, lora_scale, run_folder

_NAME = re.compile(r"step-(\d+)\.safetensors")
_FINGERPRINT = "fingerprint"
_OPTIMIZER = "optimizer"
_STRUCTURE = f"{_OPTIMIZER}.structure"  # JSON as bytes: the optimizer's state without its tensors


class NotFiniteError(GridctlError):
    """The loss or the weights are no longer finite numbers."""


# A run: check its folder, resume, save, export.


def check_folder(setup: Setup, *, force: bool) -> None:
    """Raise InputError if the folder holds another run, or the adapter is from elsewhere.

    `force` allows both.
    """
    if force:
        return
    folder, saved = setup.folder, list_checkpoints(setup.folder)
    if not saved:
        refuse_overwrite(setup.adapter, force=False)
        return
    if not (folder / RUN_FILE).exists():  # an older gridctl, which had another fingerprint
        return
    if setup.inputs.fingerprint == _read_metadata(saved[-1]).get(_FINGERPRINT):
        return
    before = RunInputs.read(folder)
    differences = setup.inputs.differences(before) if before else f"{RUN_FILE} cannot be read"
    remedy = "--force to start over" if before else "the settings and data of that run"
    raise InputError(
        f"{folder} holds a run with other data or settings ({differences}); use another output "
        f"(-o), or {remedy}."
    )


def forget(folder: Path) -> None:
    """Delete what an earlier run has left, to start over."""
    for path in [*list_checkpoints(folder), folder / METRICS_FILE, folder / RUN_FILE]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / PREVIEWS, ignore_errors=True)


def resume(run: Run) -> int:
    """Restore the newest checkpoint, if there is one; returns the step to continue from.

    Raises InputError for a checkpoint that cannot be read, has other layers or another rank, or
    is past the last step.
    """
    folder, total = run.setup.folder, run.setup.total_steps
    saved = list_checkpoints(folder)
    step = 0
    if saved:
        step, tensors, _ = read_checkpoint(saved[-1])
        if step > total:
            raise InputError(
                f"{folder} is at step {step}, past the {total} asked for; use --force to start "
                "over, or ask for more steps."
            )
        weights = _weights(run)
        if any(n not in tensors or tensors[n].shape != t.shape for n, t in weights.items()):
            raise InputError(
                f"{folder} holds a run with other layers or another rank; use another output "
                "(-o), or --force to start over."
            )
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(tensors[name])
        load_optimizer(run.optimizer, tensors)
    if run.is_main:
        keep_metrics(folder, step)
    return step


def save_run(run: Run, step: int) -> Path:
    """Write weights, their average and the optimizer, with the header of an adapter.

    Raises NotFiniteError, and writes nothing, for weights that are not finite: they would push
    out good checkpoints.
    """
    weights = _weights(run)
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise NotFiniteError(f"the weights are not finite numbers at step {step}")
    adapter = run.setup.adapter_metadata(step)
    return write_checkpoint(
        run.setup.folder,
        step,
        {**weights, **optimizer_tensors(run.optimizer)},
        metadata={
            **checkpoint_facts(adapter, scale=lora_scale(run.profile.train)),
            _FINGERPRINT: run.setup.inputs.fingerprint,
        },
        keep=run.profile.train.keep_checkpoints,
    )


def _weights(run: Run) -> dict[str, Tensor]:
    """The trained weights and their moving average, by their names in a checkpoint."""
    average = {f"ema.{name}": tensor for name, tensor in run.ema.items()}
    return {**lora_tensors(unwrap(run.transformer)), **average}


def last_checkpoint(folder: Path) -> str:
    """The newest checkpoint in words, for messages."""
    saved = list_checkpoints(folder)
    return f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"


def export_run(run: Run) -> None:
    """Write the adapter: the moving average's weights, if there is one."""
    settings, setup = run.profile.train, run.setup
    save_adapter(
        setup.adapter,
        run.ema or lora_tensors(unwrap(run.transformer)),
        setup.adapter_metadata(setup.total_steps),
        scale=lora_scale(settings),
        dtype=torch_dtype(settings.save_dtype),
        force=True,
    )


def export_checkpoint(profile: Profile, step: int | None, *, force: bool = False) -> Path:
    """Write the adapter of a checkpoint, the newest if `step` is None, beside the run's own.

    It is named after its step: `adapter-000250.safetensors`. Only the weights are loaded, and the
    run may still be training. Raises InputError if there is no such checkpoint.
    """
    folder = run_folder(profile)
    saved = {int(path.stem.removeprefix("step-")): path for path in list_checkpoints(folder)}
    if not saved:
        raise InputError(f"{folder} holds no checkpoint; train first, or check -o.")
    step = max(saved) if step is None else step
    if step not in saved:
        steps = ", ".join(map(str, saved))
        raise InputError(f"{folder} has no checkpoint of step {step}; it has {steps}.")
    metadata = read_adapter_metadata(saved[step])
    if metadata is None:
        raise InputError(
            f"{saved[step]} is of an older version, which cannot be exported; resume the run."
        )
    path = folder.with_name(f"{folder.stem}-{step:06d}.safetensors")
    dtype = torch_dtype(profile.train.save_dtype)
    write_adapter(path, load_adapter(saved[step]), metadata, dtype=dtype, force=force)
    return path


# The files.


def write_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str],
    keep: int,
) -> Path:
    """Write `step-NNNNNN.safetensors`, then delete all but the newest `keep`.

    Raises InputError if the disk cannot take it; the older checkpoints are then still there.
    """
    path = folder / f"step-{step:06d}.safetensors"
    # Copies, because safetensors refuses tensors that share memory: 8-bit AdamW has one
    # quantisation map for all its states.
    copies = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}
    with atomic_file(path, force=True) as temporary:
        try:
            save_file(copies, temporary, metadata={**metadata, "step": str(step)})
        except SafetensorError as error:  # the library hides the disk's errors in its own
            raise InputError(
                f"{path} cannot be written ({error}); free some space on that disk."
            ) from error
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("*"))
    return [path for _, path in sorted((int(m[1]), path) for m, path in matches if m)]


def read_checkpoint(path: Path) -> tuple[int, dict[str, Tensor], dict[str, str]]:
    """(step, tensors, metadata) of a checkpoint; InputError if it cannot be read."""
    metadata = _read_metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        return int(metadata.pop("step")), tensors, metadata
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_metadata(path: Path) -> dict[str, str]:
    """The header of a checkpoint, without its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is not a readable checkpoint ({error}); delete it to resume from the one before."
    )


# The optimizer's state, which no library stores in safetensors.


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of any optimizer as flat tensors, whatever its nesting.

    Numbers, texts and the nesting itself go into one more tensor, as JSON. (8-bit AdamW of
    bitsandbytes has dicts within dicts, and counts its steps in a plain int.)

    Raises GridctlError for a state of other types.
    """
    tensors: dict[str, Tensor] = {}
    structure = _flatten(optimizer.state_dict()["state"], _OPTIMIZER, tensors)
    text = json.dumps(structure).encode()
    return {**tensors, _STRUCTURE: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
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


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; its tensors go to `tensors`, under names that begin with `name`."""
    if isinstance(value, Tensor):
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


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
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
