"""The curriculum: data, grid, batch, learning rate, temporal weight and sigmas of each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gridctl.dataset.fetch import as_folder, local_folder
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.profile import StageSection, TrainSection
from gridctl.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a run.

    Learning rate and temporal weight are (start, end) of straight lines. `batch_size` counts
    the grids of a forward pass, `accumulate` the passes of a step.
    """

    data: Path
    """A dataset folder on this machine. What is in storage or in shards was copied to the cache."""
    grid: Grid
    steps: int
    batch_size: int
    accumulate: int
    learning_rates: tuple[float, float]
    temporal_weights: tuple[float, float]
    logit_mean: float

    @property
    def slots(self) -> int:
        """Grids per optimizer step."""
        return self.batch_size * self.accumulate

    @property
    def has_ramp(self) -> bool:
        """Whether a step's values depend on how long the stage is."""
        return any(start != end for start, end in (self.learning_rates, self.temporal_weights))

    def learning_rate(self, step: int) -> float:
        """At `step` of this stage, counted from 0."""
        return self._between(self.learning_rates, step)

    def temporal_weight(self, step: int) -> float:
        """At `step` of this stage, counted from 0."""
        return self._between(self.temporal_weights, step)

    def _between(self, ends: tuple[float, float], step: int) -> float:
        return ends[0] + (ends[1] - ends[0]) * step / max(1, self.steps - 1)


def resolve_stages(train: TrainSection, grid: Grid, *, progress: Progress = silent) -> list[Stage]:
    """The profile's stages, with [train] and [grid] for the keys that a stage leaves out.

    A run without stages is a single one. Raises UsageError for a stage without data, or a last
    stage whose cells are not the grid's: the adapter draws cells of that size.
    """
    stages = [_resolve(train, stage, grid, progress) for stage in train.stages or (StageSection(),)]
    if stages[-1].grid != grid:
        width, height = stages[-1].grid.cell
        raise UsageError(
            f"the last stage trains cells of {width}x{height}, and grid.cell is "
            f"{grid.cell[0]}x{grid.cell[1]}; the adapter draws what it learned last, so make them "
            "equal."
        )
    return stages


def _resolve(train: TrainSection, stage: StageSection, grid: Grid, progress: Progress) -> Stage:
    data = stage.data or train.data
    if data is None:
        raise UsageError(
            "train.data is not set; name the dataset folder in the profile, or with --data."
        )
    rate = stage.learning_rate or train.learning_rate
    weight = _first_set(stage.temporal_weight, train.temporal_weight)
    return Stage(
        data=local_folder(as_folder(data), progress=progress),
        grid=replace(grid, cell=stage.cell or grid.cell),
        steps=stage.steps or train.steps,
        batch_size=stage.batch_size or train.batch_size,
        accumulate=stage.accumulate or train.accumulate,
        learning_rates=(rate, _first_set(stage.learning_rate_end, rate)),
        temporal_weights=(weight, _first_set(stage.temporal_weight_end, weight)),
        logit_mean=_first_set(stage.logit_mean, train.logit_mean),
    )


def _first_set(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def stage_at(stages: list[Stage], step: int) -> tuple[int, int]:
    """(index of the stage, step within it) of a run's `step`."""
    for index, stage in enumerate(stages):
        if step < stage.steps:
            return index, step
        step -= stage.steps
    raise IndexError(f"step {step} past the last stage")
