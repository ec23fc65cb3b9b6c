import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.train.batch import draw_grids, draw_single_frames, mix_seed, share, slot_samples
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


def test_a_seed_is_the_same_on_every_machine() -> None:
    """numpy's SeedSequence is specified: runs of other machines and versions go on with it."""
    assert mix_seed(0, 0, 0) == 15793235383387715774
    assert mix_seed(1, 2, 3, 4) == 15323499849503866763
    assert mix_seed(1, 2, 3) != mix_seed(3, 2, 1)


@pytest.fixture(scope="module")
def slots(load: Callable[..., Any], dataset: Path, tmp_path_factory: Any) -> Callable[..., Any]:
    """A run whose grids have two captions each, and the slots of a step of all four."""
    data = Path(shutil.copytree(dataset, tmp_path_factory.mktemp("captions") / "vidgrid"))
    for text in data.glob("*.txt"):
        text.write_text(text.read_text().strip() + f"\nanother caption of {text.stem}\n")

    def make(**options: Any) -> tuple[Any, Any]:
        run = load(train__data=data, train__preserve_weight=1.0, **options)
        return run, list(enumerate(run.samples[0]))

    return make


def texts(run: Any, batch: Any) -> list[str]:
    """The prompts of a batch, found again by what they are encoded to."""
    known = {text: run.cache.prompt(text) for text in run.setup.captions}
    return [
        next(text for text, own in known.items() if torch.equal(own["embeds"][0], embeds))
        for embeds in batch.prompt["embeds"]
    ]


def draw(run: Any, slots: Any, step: int, **options: Any) -> Any:
    return draw_grids(run, slots, step, grid=run.stages[0].grid, logit_mean=0.0, **options)


@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_captions_are_chosen_and_dropped_by_lot(slots: Callable[..., Any], dropout: float) -> None:
    """One number of a stream of its own chooses, one after noise and sigma drops."""
    run, four = slots(train__caption_dropout=dropout)
    found, wanted = [], []
    for step in range(4):
        found += texts(run, draw(run, four, step))
        for slot, sample in four:
            choice = torch.Generator().manual_seed(mix_seed(0, step, slot, 3))
            caption = sample.captions[int(torch.randint(2, (), generator=choice))]
            generator = torch.Generator().manual_seed(mix_seed(0, step, slot))
            run.setup.base.draw_noise(run.stages[0].grid, generator)
            torch.randn(1, generator=generator)  # for sigma
            dropped = float(torch.rand((), generator=generator)) < dropout
            wanted.append("" if dropped else caption)
    assert found == wanted
    assert (found.count("") == 0, found.count("") == 16) == (dropout == 0, dropout == 1)
    kinds = {text.startswith("another") for text in found if text}
    assert kinds == ({True, False} if dropout < 1 else set())


def test_a_plain_batch_drops_and_keeps_nothing(slots: Callable[..., Any]) -> None:
    run, four = slots(train__caption_dropout=1.0, train__keep=1.0)
    plain, usual = draw(run, four, 5, plain=True), draw(run, four, 5)
    assert "" not in texts(run, plain)
    assert texts(run, usual) == [""] * 4
    assert plain.kept is None
    assert usual.kept.any(dim=1).all()
    assert torch.equal(plain.noise, usual.noise)
    assert torch.equal(plain.sigma, usual.sigma)


def test_single_frames_have_contents_for_captions(slots: Callable[..., Any]) -> None:
    run, four = slots(train__caption_dropout=0.5)
    grid = run.stages[0].grid
    found = []
    for step in range(4):
        batch = draw_single_frames(run, four, step, grid=grid, logit_mean=0.0)
        assert batch.clean.shape[-2:] == (2, 2)  # 32x32 pixels
        found += texts(run, batch)
    assert "" in found
    contents = {text for _, sample in four for text in sample.contents}
    assert {text for text in found if text} <= contents
    assert not any("2x3 grid" in text for text in found)


def test_noise_depends_on_the_slot_alone(slots: Callable[..., Any]) -> None:
    """So a process that has every other slot draws what one process would have."""
    run, four = slots()
    whole, half = draw(run, four, 7), draw(run, four[1::2], 7)
    for name in ("clean", "noise", "sigma"):
        assert torch.equal(getattr(whole, name)[1::2], getattr(half, name))
    assert not torch.equal(whole.noise[0], whole.noise[1])
    assert not torch.equal(whole.noise, draw(run, four, 8).noise)
