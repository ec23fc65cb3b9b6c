"""`train --plan` and `--prepare-only`: what a run needs, and the cache filled before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridctl.errors import UsageError, counted
from gridctl.machine.devices import Card, nvidia_cards
from gridctl.models.hub import transformer_config
from gridctl.models.memory import (
    TrainingMemory,
    changes_that_fit,
    fits,
    least_share,
    training_memory,
)
from gridctl.profile import Profile, toml_value
from gridctl.progress import Progress, silent
from gridctl.prompt import layout_template
from gridctl.train.data import Stage, read_dataset, resolve_stages
from gridctl.train.setup import Note, fill_cache, refuse_distilled, set_up


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run's data, steps and memory.

    `memory` is in GiB of GPU memory, `card` the largest GPU here, and `least_share` the smallest
    memory.checkpointed_share that fits on it.
    """

    profile: Profile
    stages: tuple[Stage, ...]
    datasets: tuple[str, ...]
    memory: TrainingMemory
    card: Card | None
    least_share: float | None = None

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The plan for the user, a line for each fact."""
        train, memory = self.profile.train, self.profile.memory
        lines = []
        for stage, dataset in zip(self.stages, self.datasets, strict=True):
            lines += [
                f"data        {dataset}",
                f"grid        {stage.grid}, {stage.grid.num_tokens:,} image tokens",
                f"steps       {stage.steps:,} of {counted(stage.slots, 'grid')}",
            ]
        lines.append(f"parameters  {self.memory.trained / 1e6:,.1f} million, rank {train.rank}")
        if memory.device == "cpu":
            return lines
        card = f"{self.card.name}, {self.card.memory_mib / 1024:.0f} GiB" if self.card else "none"
        lines += [f"card        {card}", *self.memory.lines()]
        lines.append(f"{'peak':<12}{self.memory.peak:6.1f} GiB")
        now = memory.checkpointed_share if memory.gradient_checkpointing else 0.0
        if self.least_share is not None and self.least_share < now:
            key = f"memory.checkpointed_share = {self.least_share}"
            lines.append(f"faster      fits with {key} as well ({now} now)")
        return lines


def plan_run(profile: Profile, *, progress: Progress | None = None) -> RunPlan:
    """Read the data and plan the run. Weights are neither read nor downloaded.

    Raises InputError for unusable data, UsageError for a profile without data.
    """
    stages = resolve_stages(profile.train, profile.grid.to_grid(), progress=progress or silent)
    layout = layout_template(profile.caption.layout)
    datasets = [
        read_dataset(s.data, s.grid, layout=layout, progress=progress or silent) for s in stages
    ]
    cards = nvidia_cards()
    card = max(cards, key=lambda card: card.memory_mib) if cards else None
    config = transformer_config(profile)
    largest = _largest(profile, stages, config)
    least = None
    if card and profile.memory.device != "cpu":
        least = least_share(largest, config, card.memory_mib / 1024)
    return RunPlan(
        profile=profile,
        stages=tuple(stages),
        datasets=tuple(map(str, datasets)),
        memory=training_memory(largest, config),
        card=card,
        least_share=least,
    )


def check_memory(
    profile: Profile, stages: Sequence[Stage], config: Mapping[str, Any], card_gib: float
) -> TrainingMemory:
    """Plan the memory of a run on a card with `card_gib`.

    Raises UsageError for a run that does not fit, with the settings that make it fit.
    """
    profile = _largest(profile, stages, config)
    plan = training_memory(profile, config)
    if fits(plan, card_gib):
        return plan
    changes = changes_that_fit(profile, config, card_gib)
    if changes is None:
        remedy = "no setting makes it fit; use a smaller grid or a larger card"
    else:
        values = [f"{key} = {toml_value(value)}" for key, value in changes.items()]
        remedy = f"it fits with {', '.join(values)}"
    raise UsageError(
        f"the run needs {plan.peak:.1f} GiB of GPU memory, the card has {card_gib:.1f}; {remedy}."
    )


def _largest(profile: Profile, stages: Sequence[Stage], config: Mapping[str, Any]) -> Profile:
    """The profile with the grid and batch of the stage that needs most memory."""

    def size(stage: Stage) -> tuple[int, int, bool]:
        """Image tokens, prompts, and whether gradients of other passes are there already."""
        batch = stage.batch_size
        return stage.grid.num_tokens * batch, batch, stage.accumulate > 1

    def is_below(stage: Stage, other: Stage) -> bool:
        pairs = zip(size(stage), size(other), strict=True)
        return size(stage) != size(other) and all(mine <= theirs for mine, theirs in pairs)

    # A plan of FLUX.1 takes seconds, so stages that are smaller in every way are left out.
    candidates = {size(s): s for s in stages if not any(is_below(s, other) for other in stages)}
    profiles = [
        profile.with_values(
            {
                "grid.cell": stage.grid.cell,
                "train.batch_size": stage.batch_size,
                "train.accumulate": stage.accumulate,
            }
        )
        for stage in candidates.values()
    ]
    if len(profiles) == 1:
        return profiles[0]
    return max(profiles, key=lambda profile: training_memory(profile, config).training)


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """The filled cache: `encoded` counts the new entries, of this shard only."""

    encoded: int
    datasets: tuple[str, ...]


def prepare(
    profile: Profile,
    *,
    shard: tuple[int, int] | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> PrepareResult:
    """Check the profile and its data, and encode all grids and captions into the cache.

    `shard` (i, n) encodes the i-th of n shares, so that machines with one cache can work at the
    same time. Raises what `train` raises before its first step.
    """
    refuse_distilled(profile)
    progress = progress or silent
    setup = set_up(profile, progress=progress)
    datasets = tuple(dict.fromkeys(map(str, setup.datasets)))
    for dataset in datasets:
        (note or (lambda _: None))(dataset)
    return PrepareResult(
        encoded=fill_cache(setup, progress=progress, shard=shard), datasets=datasets
    )
