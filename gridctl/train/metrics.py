"""What a run measures: its losses, validation, metrics.jsonl, and the text of its progress."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gridctl.diffusion.flow import velocity
from gridctl.files import write_text
from gridctl.train.batch import draw_grids
from gridctl.train.setup import Run
from gridctl.train.step import Step, flow_losses

METRICS_FILE = "metrics.jsonl"
SIGMAS = (0.125, 0.375, 0.625, 0.875)  # of validation: the middles of four bands
_VALIDATION_STEP = 2**31  # no step of training draws the same noise
_GIB = 2**30
_SMOOTHING = 0.9


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The logged steps of a run folder; a line that was cut off by a crash is left out."""
    entries = []
    try:
        lines = (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def keep_metrics(folder: Path, last_step: int) -> list[dict[str, Any]]:
    """Drop the lines after `last_step`, from where a run resumes; returns the others.

    A run that starts at 0 begins a new log.
    """
    entries = read_metrics(folder)
    kept = [entry for entry in entries if entry["step"] <= last_step and last_step]
    if len(kept) < len(entries):
        write_text(folder / METRICS_FILE, "".join(_line(entry) for entry in kept))
    return kept


def append_metrics(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line at once; what is not a finite number becomes null, so that it stays JSON."""
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(_line(entry))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps({key: _finite(value) for key, value in entry.items()}) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat_metrics(entry: Mapping[str, Any]) -> dict[str, float]:
    """An entry as trackers take it: names and numbers, those of a noise level by its sigma."""
    flat = {key: value for key, value in entry.items() if isinstance(value, float)}
    for band in entry.get("validation_bands", ()):
        for kind in ("base", "temporal"):
            flat[f"validation_{kind}/sigma_{band['sigma']}"] = band[kind]
    return flat


def start_trackers(run: Run) -> None:
    """Open the profile's trackers; accelerate names their library."""
    if not run.profile.train.trackers:
        return
    folder = run.setup.folder
    settings = {key: str(value) for key, value in run.setup.identity.settings.items()}
    run.accelerator.init_trackers(folder.stem, config=settings)


@torch.inference_mode()
def validate(run: Run) -> dict[str, Any]:
    """The mean loss over validation grids and sigmas, and base and temporal loss at each sigma.

    Nothing is random: grids, captions, noise and sigmas are the same each time, so that two
    results differ by what was learned between them. Empty without validation grids.
    """
    if not run.setup.validation:
        return {}
    settings, stage = run.profile.train, run.stages[-1]
    sums = torch.zeros(len(SIGMAS), 2, device=run.device)
    slots = list(enumerate(run.setup.validation))
    for first in range(0, len(slots), stage.batch_size):
        some = slots[first : first + stage.batch_size]
        batch = draw_grids(
            run, some, _VALIDATION_STEP, grid=stage.grid, logit_mean=stage.logit_mean, plain=True
        )
        target = velocity(batch.clean, batch.noise)
        for index, sigma in enumerate(SIGMAS):
            predicted = batch.at(sigma).predict(run.transformer, autocast=run.autocast)
            losses = flow_losses(predicted, target, stage.grid, row_wraps=settings.row_wraps)
            sums[index] += torch.stack(losses, dim=1).sum(dim=0)
    means = (sums / len(slots)).tolist()
    base = sum(mean[0] for mean in means) / len(means)
    temporal = sum(mean[1] for mean in means) / len(means)
    return {
        "validation": settings.base_weight * base + settings.temporal_weight * temporal,
        "validation_bands": [
            {"sigma": sigma, "base": mean[0], "temporal": mean[1]}
            for sigma, mean in zip(SIGMAS, means, strict=True)
        ],
    }


class Meter:
    """Times steps and smooths the loss, for progress and the log.

    `log` has the entries of an earlier part of the run, whose smoothed loss goes on.
    """

    def __init__(self, log: Sequence[Mapping[str, Any]] = ()) -> None:
        self._began = time.monotonic()
        self._steps = 0
        self._last = (self._began, 0)
        self._mean = self._weight = 0.0
        self.text = ""
        for entry in log:
            if entry.get("loss") is not None:
                self._smooth(entry["loss"])

    def count(self) -> None:
        """A step is done."""
        self._steps += 1

    def measure(self, run: Run, step: int, taken: Step) -> dict[str, Any]:
        """The log's entry after `step` steps. It waits for the device."""
        settings = run.profile.train
        base, temporal, preserve = run.accelerator.reduce(taken.losses, "mean").tolist()
        loss = (
            settings.base_weight * base
            + taken.temporal_weight * temporal
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
            "grad_norm": float(taken.grad_norm),
            "learning_rate": taken.learning_rate,
            "temporal_weight": taken.temporal_weight,
            "seconds": seconds,
        }
        if run.device.type == "cuda":
            entry["memory_gib"] = torch.cuda.max_memory_allocated(run.device) / _GIB
        self._smooth(loss)
        self.text = self._text(entry)
        return entry

    def _smooth(self, loss: float) -> None:
        self._mean = _SMOOTHING * self._mean + (1 - _SMOOTHING) * loss
        self._weight = _SMOOTHING * self._weight + 1 - _SMOOTHING

    def _text(self, entry: Mapping[str, Any]) -> str:
        parts = [
            f"loss {self._mean / self._weight:.4f}",
            f"{entry['seconds']:.3g} s/step",
            f"learning rate {entry['learning_rate']:.2g}",
        ]
        if "memory_gib" in entry:
            parts.append(f"{entry['memory_gib']:.1f} GiB")
        return ", ".join(parts)
