"""Which samples a step has, and which of them a process takes: pure functions of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from gridctl.train.data import Sample

_T = TypeVar("_T")


def slot_samples(samples: Sequence[Sample], *, seed: int, first: int, count: int) -> list[Sample]:
    """The samples of slots `first` to `first + count`, in a new random order each epoch.

    A pure function of its arguments, so a resumed run sees what it would have seen.
    """
    chosen = []
    for slot in range(first, first + count):
        epoch, place = divmod(slot, len(samples))
        chosen.append(samples[_epoch_order(len(samples), seed, epoch)[place]])
    return chosen


@lru_cache(maxsize=4)  # a step lies in one epoch, seldom two: it never shuffles by itself
def _epoch_order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    generator = torch.Generator().manual_seed(mix_seed(seed, epoch))
    order: npt.NDArray[np.int64] = torch.randperm(count, generator=generator).numpy()
    return order


def share(items: Sequence[_T], *, process: int, processes: int) -> list[tuple[int, _T]]:
    """(slot, item) of the items of a step that one of several processes works on."""
    return list(enumerate(items))[process::processes]


def mix_seed(*parts: int) -> int:
    """One 64-bit seed from several numbers; neighbours give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
