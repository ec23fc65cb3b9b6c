"""What a run measures: losses, validation, metrics.jsonl, and the text of its progress."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gridctl.diffusion.flow import velocity
from gridctl.files import append_text, write_text
from gridctl.train.batch import draw_grids
from gridctl.train.setup import Run
from gridctl.train.step import StepResult, flow_losses

METRICS_FILE = "metrics.jsonl"
SIGMAS = (0.125, 0.375, 0.625, 0.875)  # of validation: the middles of four bands
_VALIDATION_STEP = 2**31  # no step of training draws the same noise
_GIB = 2**30
_SMOOTHING = 0.9


def smoothed(values: Iterable[float]) -> list[float]:
    """The exponential moving average after each value, without the pull of its start at 0."""
    mean = weight = 0.0
    means = []
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + 1 - _SMOOTHING
        means.append(mean / weight)
    return means


@torch.inference_mode()
def validate(run: Run) -> dict[str, Any]:
    """The mean loss over validation grids and sigmas, and base and temporal loss at each sigma.

    Nothing is random: grids, captions, noise and sigmas are the same each time, so two results
    differ only by the training between them. Empty without validation grids.
    """
    if not run.setup.validation:
        return {}
    settings, stage = run.profile.train, run.stages[-1]
    sums = torch.zeros(len(SIGMAS), 2, device=run.device)
    slots = list(enumerate(run.setup.validation))
    for first in range(0, len(slots), stage.batch_size):
        batch = draw_grids(
            run,
            slots[first : first + stage.batch_size],
            _VALIDATION_STEP,
            grid=stage.grid,
            logit_mean=stage.logit_mean,
            plain=True,
        )
        target = velocity(batch.clean, batch.noise)
        for index, sigma in enumerate(SIGMAS):
            predicted = batch.at(sigma).predict(run.transformer, autocast=run.autocast)
            losses = flow_losses(predicted, target, stage.grid, row_wraps=settings.row_wraps)
            sums[index] += torch.stack(losses, dim=1).sum(dim=0)
    means = (sums / len(slots)).tolist()
    base, temporal = ((sum(column) / len(means)) for column in zip(*means, strict=True))
    return {
        "validation": settings.base_weight * base + settings.temporal_weight * temporal,
        "validation_bands": [
            {"sigma": sigma, "base": mean[0], "temporal": mean[1]}
            for sigma, mean in zip(SIGMAS, means, strict=True)
        ],
    }


class Meter:
    """Times steps and smooths the loss, for progress and the log.

    `log` has the entries of an earlier part of the run: smoothing continues from them.
    """

    def __init__(self, log: Sequence[Mapping[str, Any]] = ()) -> None:
        self._last = (time.monotonic(), 0)  # when the log was last written, and its step count
        self._steps = 0
        losses = (entry["loss"] for entry in log if entry.get("loss") is not None)
        self._losses = deque(losses, maxlen=100)  # older ones weigh less than 3e-5
        self.text = ""

    def count(self) -> None:
        """Count a step."""
        self._steps += 1

    def measure(self, run: Run, step: int, result: StepResult) -> dict[str, Any]:
        """The log's entry after `step` steps. Waits for the device."""
        settings = run.profile.train
        base, temporal, preserve = run.accelerator.reduce(result.losses, "mean").tolist()
        loss = (
            settings.base_weight * base
            + result.temporal_weight * temporal
            + settings.preserve_weight * preserve
        )
        now = time.monotonic()
        seconds = (now - self._last[0]) / max(1, self._steps - self._last[1])
        self._last = (now, self._steps)
        entry = {
            "step": step,
            "loss": loss,
            "base": base,
            "temporal": temporal,
            "preserve": preserve,
            "ratio": temporal / max(base, 1e-12),
            "grad_norm": float(result.grad_norm),
            "learning_rate": result.learning_rate,
            "temporal_weight": result.temporal_weight,
            "seconds": seconds,
        }
        if run.device.type == "cuda":
            entry["memory_gib"] = torch.cuda.max_memory_allocated(run.device) / _GIB
        self._losses.append(loss)
        self.text = (
            f"loss {smoothed(self._losses)[-1]:.4f}, {seconds:.3g} s/step, "
            f"learning rate {result.learning_rate:.2g}"
        )
        if "memory_gib" in entry:
            self.text += f", {entry['memory_gib']:.1f} GiB"
        return entry


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The log of a run folder, oldest step first; a line cut off by a crash is skipped."""
    entries = []
    try:
        lines = (folder / METRICS_FILE).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def keep_metrics(folder: Path, last_step: int) -> list[dict[str, Any]]:
    """Keep the log up to `last_step`, from where a run resumes, and return it.

    A run that starts at 0 begins a new log. The file is written again even if no entry goes: a
    line that a crash cut off has no end, and the next entry would be lost with it.
    """
    kept = [entry for entry in read_metrics(folder) if entry["step"] <= last_step and last_step]
    if (folder / METRICS_FILE).exists():
        write_text(folder / METRICS_FILE, "".join(map(_line, kept)))
    return kept


def append_metrics(folder: Path, entry: Mapping[str, Any]) -> None:
    """Append an entry to the log at once."""
    append_text(folder / METRICS_FILE, _line(entry))


def _line(entry: Mapping[str, Any]) -> str:
    """An entry as JSON, which has no infinity and no NaN: they become null."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in entry.items()
    }
    return json.dumps(finite) + "\n"


def start_trackers(run: Run) -> None:
    """Open the profile's trackers, if any; accelerate reports a missing library."""
    if run.profile.train.trackers:
        settings = {key: str(value) for key, value in run.setup.inputs.settings.items()}
        run.accelerator.init_trackers(run.setup.folder.stem, config=settings)


def flat_metrics(entry: Mapping[str, Any]) -> dict[str, float]:
    """An entry for trackers: numbers by name, those of a noise level by its sigma."""
    flat = {key: value for key, value in entry.items() if isinstance(value, float)}
    for band in entry.get("validation_bands", ()):
        for kind in ("base", "temporal"):
            flat[f"validation_{kind}/sigma_{band['sigma']}"] = band[kind]
    return flat


def validation_keys(kind: str) -> list[str]:
    """The names by which `flat_metrics` has the base or temporal losses of validation."""
    return [f"validation_{kind}/sigma_{sigma}" for sigma in SIGMAS]
