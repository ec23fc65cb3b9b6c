"""The curriculum: which data, learning rate and temporal weight a step has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import UsageError
from gridctl.profile import StageSection, TrainSection


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a run; the temporal weight goes from `start_weight` to `end_weight`."""

    data: Path
    steps: int
    learning_rate: float
    start_weight: float
    end_weight: float

    def temporal_weight(self, step: int) -> float:
        """At `step` of this stage, in a straight line from the first to the last."""
        way = step / max(1, self.steps - 1)
        return self.start_weight + (self.end_weight - self.start_weight) * way


def resolve_stages(train: TrainSection) -> list[Stage]:
    """The profile's stages with what they leave out; a run without stages is a single one.

    Raises UsageError for a stage without data.
    """
    return [_resolve(train, stage) for stage in train.stages or (StageSection(),)]


def _resolve(train: TrainSection, stage: StageSection) -> Stage:
    data = stage.data or train.data
    if data is None:
        raise UsageError(
            "train.data is not set; name the dataset folder in the profile, or with --data."
        )
    start = _first_set(stage.temporal_weight, train.temporal_weight)
    return Stage(
        data=data,
        steps=stage.steps or train.steps,
        learning_rate=stage.learning_rate or train.learning_rate,
        start_weight=start,
        end_weight=_first_set(stage.temporal_weight_end, start),
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
