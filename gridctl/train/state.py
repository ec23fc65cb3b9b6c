"""A run on disk: checkpoints to resume from, and adapters made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from gridctl.errors import GridctlError, InputError
from gridctl.lora.adapters import (
    checkpoint_facts,
    load_adapter,
    lora_tensors,
    read_adapter_metadata,
    save_adapter,
    write_adapter,
)
from gridctl.machine.devices import torch_dtype
from gridctl.models.latents import unwrap
from gridctl.profile import Profile
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from gridctl.train.identity import RUN_FILE
from gridctl.train.metrics import METRICS_FILE, keep_metrics
from gridctl.train.preview import PREVIEWS
from gridctl.train.setup import Run, lora_scale, run_folder


class NotFiniteError(GridctlError):
    """The loss or the weights are not finite numbers any more."""


def resume(run: Run) -> int:
    """Restore the newest checkpoint, if there is one; returns the step to continue from."""
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
        _restore(run, tensors, folder)
    if run.is_main:
        keep_metrics(folder, step)
    return step


def _restore(run: Run, tensors: dict[str, Tensor], folder: Path) -> None:
    parameters = lora_tensors(unwrap(run.transformer))
    wanted = {**parameters, **{f"ema.{name}": shadow for name, shadow in run.ema.items()}}
    if any(n not in tensors or tensors[n].shape != t.shape for n, t in wanted.items()):
        raise InputError(
            f"{folder} holds a run with other layers or another rank; use another output (-o), or "
            "--force to start over."
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])
    load_optimizer(run.optimizer, tensors)


def forget(folder: Path) -> None:
    """Remove what an earlier run has left, to start over."""
    for path in [*list_checkpoints(folder), folder / METRICS_FILE, folder / RUN_FILE]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / PREVIEWS, ignore_errors=True)


def save_run(run: Run, step: int) -> Path:
    """Write weights, optimizer and average, with the header of an adapter.

    Raises NotFiniteError, and writes nothing, for weights that are not finite: they would push
    out good checkpoints.
    """
    weights = lora_tensors(unwrap(run.transformer))
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise NotFiniteError(f"the weights are not finite numbers at step {step}")
    tensors = {
        **weights,
        **{f"ema.{name}": shadow for name, shadow in run.ema.items()},
        **optimizer_tensors(run.optimizer),
    }
    facts = {
        **checkpoint_facts(run.setup.facts(step), scale=lora_scale(run.profile.train)),
        "fingerprint": run.setup.identity.fingerprint,
    }
    keep = run.profile.train.keep_checkpoints
    return write_checkpoint(run.setup.folder, step, tensors, facts=facts, keep=keep)


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
        setup.facts(setup.total_steps),
        scale=lora_scale(settings),
        dtype=torch_dtype(settings.save_dtype),
        force=True,
    )


def export_checkpoint(profile: Profile, step: int | None, *, force: bool = False) -> Path:
    """Write the adapter of a checkpoint, the newest if `step` is None, beside the run's own.

    It is named after its step: `adapter-000250.safetensors`. Nothing is loaded but the weights,
    and the run may be at work. Raises InputError if there is no such checkpoint.
    """
    folder = run_folder(profile)
    saved = {int(path.stem.removeprefix("step-")): path for path in list_checkpoints(folder)}
    if not saved:
        raise InputError(f"{folder} holds no checkpoint; train first, or check -o.")
    step = max(saved) if step is None else step
    if step not in saved:
        steps = ", ".join(map(str, saved))
        raise InputError(f"{folder} has no checkpoint of step {step}; it has {steps}.")
    facts = read_adapter_metadata(saved[step])
    if facts is None:
        raise InputError(
            f"{saved[step]} is of an older version, which cannot be exported; resume the run."
        )
    path = folder.with_name(f"{folder.stem}-{step:06d}.safetensors")
    dtype = torch_dtype(profile.train.save_dtype)
    write_adapter(path, load_adapter(saved[step]), facts, dtype=dtype, force=force)
    return path
