from pathlib import Path

import pytest

from gridctl.train.batch import mix_seed, share, slot_samples
from gridctl.train.data import Sample


def samples(count: int) -> list[Sample]:
    return [
        Sample(
            image=Path(f"{k}.png"),
            captions=(str(k),),
            contents=(str(k),),
            metadata=None,
            digest=str(k),
        )
        for k in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_every_epoch_has_every_sample_once(count: int) -> None:
    some = samples(count)
    for epoch in range(3):
        chosen = slot_samples(some, seed=3, first=epoch * count, count=count)
        assert sorted(s.digest for s in chosen) == sorted(s.digest for s in some)


def test_the_order_is_a_function_of_seed_and_slot() -> None:
    some = samples(7)
    whole = slot_samples(some, seed=3, first=0, count=28)
    pieces = [slot_samples(some, seed=3, first=k, count=1)[0] for k in range(28)]
    by_three = [s for k in range(0, 27, 3) for s in slot_samples(some, seed=3, first=k, count=3)]
    assert whole == pieces
    assert whole[:27] == by_three
    assert whole[:7] != whole[7:14]  # each epoch has its own order
    assert whole != slot_samples(some, seed=4, first=0, count=28)


def test_the_order_is_what_it_was_in_earlier_versions() -> None:
    """A run that was started by one of them resumes with the samples it would have seen."""
    chosen = slot_samples(samples(7), seed=3, first=0, count=14)
    assert [int(s.digest) for s in chosen] == [2, 5, 1, 0, 4, 6, 3, 3, 6, 0, 2, 4, 5, 1]


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 6, 12])
def test_processes_share_a_step(processes: int) -> None:
    """Each slot belongs to one process, all have equally many, and slots keep their numbers."""
    items = list("abcdefghijkl")
    shares = [share(items, process=k, processes=processes) for k in range(processes)]
    assert {len(own) for own in shares} == {12 // processes}
    together = sorted(pair for own in shares for pair in own)
    assert together == list(enumerate(items))


def test_seeds_are_mixed_without_collisions() -> None:
    seeds = {mix_seed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert mix_seed(1, 2, 3) == mix_seed(1, 2, 3)
