"""A run on disk: checkpoints to go on from, and the adapter at its end."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import torch

from gridctl.errors import InputError
from gridctl.files import write_text
from gridctl.flux.adapter import AdapterFacts, lora_tensors, save_adapter
from gridctl.flux.latents import unwrap
from gridctl.machine.devices import torch_dtype
from gridctl.media.grid_image import load_facts
from gridctl.profile import profile_toml, without_folder
from gridctl.prompt import layout_template
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from gridctl.train.setup import Run


def resume(run: Run) -> int:
    """Put back the newest checkpoint, if there is one; returns the step to go on from."""
    saved = list_checkpoints(run.folder)
    if not saved:
        return 0
    step, tensors, facts = read_checkpoint(saved[-1])
    if step > run.total_steps:
        raise InputError(
            f"{run.folder} is at step {step}, past the {run.total_steps} asked for; use --force "
            "to start over, or ask for more steps."
        )
    parameters = lora_tensors(unwrap(run.transformer))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
        for name, shadow in run.ema.items():
            shadow.copy_(tensors[f"ema.{name}"])
    load_optimizer(run.optimizer, tensors)
    run.log = json.loads(facts["log"])
    return step


def forget(run: Run) -> None:
    """Remove the checkpoints of an earlier run, to start over."""
    for path in list_checkpoints(run.folder):
        path.unlink()


def save_run(run: Run, step: int) -> None:
    """Write weights, optimizer, average and log; the log is a file of its own as well."""
    tensors = {
        **lora_tensors(unwrap(run.transformer)),
        **{f"ema.{name}": shadow for name, shadow in run.ema.items()},
        **optimizer_tensors(run.optimizer),
    }
    facts = {"fingerprint": run.fingerprint, "log": json.dumps(run.log)}
    keep = run.profile.train.keep_checkpoints
    write_checkpoint(run.folder, step, tensors, facts=facts, keep=keep)
    lines = "".join(json.dumps(entry) + "\n" for entry in run.log)
    write_text(run.folder / "log.jsonl", lines)


def export_run(run: Run, path: Path) -> None:
    """The adapter: of the average, if there is one."""
    settings = run.profile.train
    samples = [sample for stage in run.samples for sample in stage]
    template = layout_template(run.profile.caption.layout)
    packed = [load_facts(sample.image) for sample in samples[:100]]
    known = [facts.fps for facts in packed if facts]
    if all(sample.content == sample.caption for sample in samples):
        template = ""  # captions from elsewhere: prompts are taken as they are
    header = AdapterFacts(
        grid=run.grid,
        layout=template,
        fps=statistics.median(known) if known else run.profile.generate.fps,
        base=without_folder(run.base_name),
        steps=run.total_steps,
        profile=profile_toml(run.profile, keep_folders=False),
        keep=settings.keep_patterns if settings.keep else (),
    )
    scale = (settings.lora_alpha or settings.rank) / settings.rank
    tensors = run.ema or lora_tensors(unwrap(run.transformer))
    dtype = torch_dtype(settings.save_dtype)
    save_adapter(path, tensors, header, scale=scale, dtype=dtype, force=True)
