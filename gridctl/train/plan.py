"""`train --plan` and `--prepare-only`: what a run needs, and the cache filled before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridctl.errors import UsageError, counted
from gridctl.machine.devices import Card, nvidia_cards
from gridctl.machine.hub import local_base
from gridctl.models.memory import (
    FLUX_DEV,
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
from gridctl.train.setup import Note, fill_cache, refuse_schnell, set_up


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run's data, steps and memory. `memory` is in GiB of a GPU; `card` is the one here.

    `least_share` is the smallest memory.checkpointed_share that fits on the card.
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
        """The plan for a reader."""
        lines = []
        for stage, dataset in zip(self.stages, self.datasets, strict=True):
            grids = counted(stage.slots, "grid")
            lines += [
                f"data        {dataset}",
                f"grid        {stage.grid}, {stage.grid.num_tokens:,} image tokens",
                f"steps       {stage.steps:,} of {grids}",
            ]
        lines.append(f"parameters  {self.memory.trained / 1e6:,.1f} million, rank {self._rank}")
        if self.profile.memory.device == "cpu":
            return lines
        card = f"{self.card.name}, {self.card.memory_mib / 1024:.0f} GiB" if self.card else "none"
        return [*lines, f"card        {card}", *self.memory.lines(), self._total, *self._faster]

    @property
    def _faster(self) -> list[str]:
        memory, least = self.profile.memory, self.least_share
        now = memory.checkpointed_share if memory.gradient_checkpointing else 0.0
        if least is None or least >= now:
            return []
        return [f"faster      fits with memory.checkpointed_share = {least} as well ({now} now)"]

    @property
    def _rank(self) -> int:
        return self.profile.train.rank

    @property
    def _total(self) -> str:
        return f"{'peak':<12}{self.memory.peak:6.1f} GiB"


def plan_run(profile: Profile, *, progress: Progress | None = None) -> RunPlan:
    """Read the data and plan the run; no weights are read, and none are downloaded.

    Raises InputError for unusable data, UsageError for a profile without data.
    """
    stages = resolve_stages(profile.train, profile.grid.to_grid(), progress=progress or silent)
    layout = layout_template(profile.caption.layout)
    datasets = [
        read_dataset(s.data, s.grid, layout=layout, progress=progress or silent) for s in stages
    ]
    cards = nvidia_cards()
    card = max(cards, key=lambda card: card.memory_mib) if cards else None
    largest, config = _largest(profile, stages), _config(profile)
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
    """The memory plan of a run on a card with `card_gib`.

    Raises UsageError for a run that does not fit. It names the changes with which it does.
    """
    profile = _largest(profile, stages)
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


def _largest(profile: Profile, stages: Sequence[Stage]) -> Profile:
    """The profile with the grid and batch of the stage that needs most."""
    stage = max(stages, key=lambda stage: stage.grid.num_tokens * stage.batch_size)
    grid = stage.grid
    sides = {f"grid.{key}": getattr(grid, key) for key in ("rows", "cols", "cell", "order")}
    return profile.with_values(sides | {"train.batch_size": stage.batch_size})


def _config(profile: Profile) -> Mapping[str, Any]:
    """The base's own config where it is on this machine, else FLUX.1-dev's."""
    import json

    folder = local_base(profile.model.base, profile.model.revision)
    path = folder / "transformer" / "config.json" if folder else None
    if path is None or not path.is_file():
        return FLUX_DEV
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What is ready: `encoded` entries are new in the cache, of this shard alone."""

    encoded: int
    datasets: tuple[str, ...]


def prepare(
    profile: Profile,
    *,
    shard: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
    note: Note | None = None,
) -> PrepareResult:
    """Check the profile and its data, and encode all grids and captions into the cache.

    `shard` (index, count) encodes a share only: machines that share a cache can work at once.
    Raises what `train` raises before its first step.
    """
    refuse_schnell(profile)
    progress = progress or silent
    setup = set_up(profile, progress=progress)
    datasets = tuple(dict.fromkeys(map(str, setup.datasets)))
    for dataset in datasets:
        (note or (lambda _: None))(dataset)
    return PrepareResult(
        encoded=fill_cache(setup, progress=progress, shard=shard), datasets=datasets
    )
