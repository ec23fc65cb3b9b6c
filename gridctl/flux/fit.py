"""Whether a training run fits on a card, and which change makes it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gridctl.flux.memory import TrainingMemory, training_memory
from gridctl.profile import Profile

RESERVED_SHARE = 1.07  # what PyTorch's allocator takes for what is allocated: 1.03 to 1.06 measured
_RANKS = (128, 64, 32, 16)
_SHARES = 10  # of the blocks to recompute: tenths


def fits(plan: TrainingMemory, card_gib: float) -> bool:
    """Whether a plan's peak fits on a card, with what the allocator takes on top."""
    return plan.peak * RESERVED_SHARE <= card_gib


def least_share(profile: Profile, config: Mapping[str, Any], card_gib: float) -> float | None:
    """The fewest tenths of the blocks to recompute with which a run fits; None if it never does.

    Each block that keeps its activations saves the time of computing them again.
    """
    fitting = None
    low, high = 0, _SHARES  # a larger share never needs more memory
    while low <= high:
        middle = (low + high) // 2
        change = {
            "memory.gradient_checkpointing": True,
            "memory.checkpointed_share": middle / _SHARES,
        }
        if fits(training_memory(_changed(profile, change), config), card_gib):
            fitting, high = middle / _SHARES, middle - 1
        else:
            low = middle + 1
    return fitting


def changes_that_fit(
    profile: Profile, config: Mapping[str, Any], card_gib: float
) -> dict[str, object] | None:
    """The first changes, by key, with which a run that does not fit does; None if none does.

    They come one after the other, each with those before it: those that cost time only, then
    those that cost accuracy.
    """
    made: dict[str, object] = {}
    for change in _changes(profile):
        made |= change
        plan = training_memory(_changed(profile, made), config)
        if fits(plan, card_gib):
            return made
    return None


def _changes(profile: Profile) -> Iterator[dict[str, object]]:
    memory, train = profile.memory, profile.train
    if profile.model.text_quantize == "none":
        yield {"model.text_quantize": "nf4"}
    if train.batch_size > 1:
        yield {"train.batch_size": 1, "train.accumulate": train.batch_size * train.accumulate}
    if not memory.gradient_checkpointing or memory.checkpointed_share < 1:
        yield {"memory.gradient_checkpointing": True, "memory.checkpointed_share": 1.0}
    if memory.optimizer != "adamw8bit":
        yield {"memory.optimizer": "adamw8bit"}
    if not memory.offload_activations:
        yield {"memory.offload_activations": True}
    if memory.quantize != "nf4":
        yield {"memory.quantize": "nf4"}
    for rank in _RANKS:
        if rank < train.rank:
            yield {"train.rank": rank}


def _changed(profile: Profile, changes: Mapping[str, object]) -> Profile:
    sections: dict[str, dict[str, object]] = {}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    updated = {n: getattr(profile, n).model_copy(update=u) for n, u in sections.items()}
    return profile.model_copy(update=updated)
