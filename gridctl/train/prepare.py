"""`train --prepare-only`: the cache filled before a run, on one machine or several."""

from __future__ import annotations

from dataclasses import dataclass

from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.train.setup import Note, fill_cache, refuse_schnell, set_up


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
    setup = set_up(profile, force=True, progress=progress)  # no run, so none can be in the way
    datasets = tuple(dict.fromkeys(map(str, setup.datasets)))
    for dataset in datasets:
        (note or (lambda _: None))(dataset)
    return PrepareResult(
        encoded=fill_cache(setup, progress=progress, shard=shard), datasets=datasets
    )
