"""The loop over the grids of a clip, and the sampling steps that it takes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.diffusion.plan import Plan
from gridctl.generate import Job, Output, render, tasks
from gridctl.generate.pipeline import draw_clip, num_sampling_steps
from gridctl.generate.steps import GridStep
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.models.base import BaseModel
from tests.generate.clips import BLUE, RED, red_circle

Make = Callable[..., Any]
OUTPUT = Output(prompt="after", content="", seed=0, path=Path("out"))


def frames(job: Job) -> Frames:
    ((_, drawn),) = render(job)
    return drawn


class FakePipeline:
    """Draws frames that count on by 1 for each grid, and records what it is given."""

    base = SimpleNamespace()

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], ...]] = []

    def _draw(self, *given: Frames) -> Frames:
        self.seen.append(tuple(frames[:, 0, 0, 0].tolist() for frames in given))
        return np.full_like(given[0], 100 + len(self.seen))

    def sample(self, job: Job, step: GridStep, output: Output, cells: Frames, _: Any) -> Frames:
        return self._draw(cells)

    def edit(
        self, job: Job, step: GridStep, output: Output, source: Frames, cells: Frames, _: Any
    ) -> Frames:
        return self._draw(source, cells)


def clip_job(ask: Make, *planned: tuple[list[int], list[float], str | None]) -> Job:
    """Eight frames, of which 0 to 5 are given as 1 to 6, drawn by grids of four cells."""
    grid = Grid(rows=2, cols=2, cell=(16, 16))
    given = {k: np.full((16, 16, 3), k + 1, np.uint8) for k in range(6)}
    steps = tuple(
        GridStep(frames=tuple(f), plan=Plan(grid=grid, release=tuple(r)), source_prompt=text)
        for f, r, text in planned
    )
    job = tasks.t2v(ask(RED))
    return replace(job, grid=grid, num_frames=8, steps=steps, references=given)


def test_each_grid_takes_its_cells_from_the_clip_so_far(ask: Make) -> None:
    pipeline: Any = FakePipeline()
    job = clip_job(
        ask,
        ([0, 2, 5, 7], [0, 0.5, 1, 1], None),
        ([2, 3, 6, 9], [0, 0, 1, 1], None),  # frame 9 lies past the end
    )
    clip, grids = draw_clip(pipeline, job, OUTPUT, on_step=lambda: None)
    assert pipeline.seen == [([1, 3, 6, 0],), ([101, 4, 0, 0],)]
    assert clip[:, 0, 0, 0].tolist() == [1, 2, 101, 4, 5, 101, 102, 101]
    assert [grid.frames[:, 0, 0, 0].tolist() for grid in grids] == [
        [1, 101, 101, 101],
        [101, 4, 102, 102],
    ]
    assert [grid.plan for grid in grids] == [step.plan for step in job.steps]
    first = grids[0].reference
    assert first is not None
    assert first[:, 0, 0, 0].tolist() == [1, 3, 6, 0]


def test_an_edit_sees_the_source_and_what_is_edited(ask: Make) -> None:
    pipeline: Any = FakePipeline()
    job = clip_job(
        ask,
        ([0, 1, 4, 5], [0.9] * 4, "before"),
        ([1, 2, 3, 4], [0, 0.9, 0.9, 0], "before"),
    )
    clip, grids = draw_clip(pipeline, job, OUTPUT, on_step=lambda: None)
    assert pipeline.seen == [([1, 2, 5, 6], [1, 2, 5, 6]), ([2, 3, 4, 5], [101, 3, 4, 101])]
    assert clip[:6, 0, 0, 0].tolist() == [101, 101, 102, 102, 101, 101]
    assert all(grid.reference is None for grid in grids)
    assert job.prompts[1:] == ("before",)


def test_a_clip_whose_frames_are_all_given_is_these(ask: Make) -> None:
    pipeline: Any = FakePipeline()
    job = replace(clip_job(ask), num_frames=6)
    clip, grids = draw_clip(pipeline, job, OUTPUT, on_step=lambda: None)
    assert (clip[:, 0, 0, 0].tolist(), grids, pipeline.seen) == ([1, 2, 3, 4, 5, 6], [], [])


@pytest.mark.parametrize("clean", [False, True])
def test_given_frames_come_back_and_others_are_drawn(
    make_profile: Make, adapter: Path, ask: Make, tmp_path: Path, clean: bool
) -> None:
    """With clean cells, given frames reach the transformer without noise, so it draws others."""
    for number, frame in enumerate(red_circle(3, (80, 64))):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    first, middle, last = (tmp_path / f"{number}.png" for number in range(3))
    profile = make_profile(model__adapter=str(adapter), generate__steps=2)
    job = tasks.i2v(ask(RED, profile=profile), first=first, last=last, at=[(2, middle)])
    assert not job.keep_clean
    drawn = frames(replace(job, keep_clean=clean))
    for frame in (0, 2, 5):
        assert np.array_equal(drawn[frame], job.references[frame])
    assert all(drawn[frame].any() for frame in (1, 3, 4))
    if clean:
        noised = frames(job)
        assert all((drawn[frame] != noised[frame]).any() for frame in (1, 3, 4))


def test_a_long_clip_keeps_what_is_given(ask: Make, tmp_path: Path) -> None:
    """Also between key frames, and where a later window meets it first."""
    at = {0: tmp_path / "0.png", 7: tmp_path / "7.png", 15: tmp_path / "15.png"}
    for path, picture in zip(at.values(), red_circle(3), strict=True):
        Image.fromarray(picture).save(path)
    for way in ("keyframes", "windows"):
        job = tasks.i2v(ask(RED), at=list(at.items()), frames=16, long=way)
        drawn = frames(job)
        assert len(drawn) == 16
        assert all(np.array_equal(drawn[frame], job.references[frame]) for frame in at)
        assert all(frame.any() for frame in drawn)


def test_windows_begin_as_a_clip_of_one_grid(ask: Make) -> None:
    short, long = tasks.t2v(ask(RED)), tasks.t2v(ask(RED), frames=8, long="windows")
    assert np.array_equal(frames(long)[:6], frames(short))


def test_restoring_draws_a_little(small: Make, ask: Make, clip: Path) -> None:
    profile = small(generate__steps=2, pack__sample="windows")
    drawn = frames(tasks.restore(ask(RED, profile=profile), clip=clip)).astype(int)
    assert drawn.shape == (10, 32, 32, 3)
    assert 0 < np.abs(drawn - red_circle(10)).mean() < 30


# ---- how many steps ----


@pytest.mark.parametrize(
    ("task", "arguments", "values"),
    [
        ("t2v", {"frames": 7}, {"generate__resample": 2}),
        ("restore", {}, {"generate__restore_strength": 0.5}),
        ("edit", {"frames": 7}, {"generate__edit_strength": 0.5, "generate__resample": 3}),
        ("t2v", {}, {"generate__fast": True, "generate__stochastic_min_sigma": 0.5}),
    ],
)
def test_as_many_steps_are_counted_as_are_taken(
    small: Make, ask: Make, clip: Path, base: BaseModel, task: str, arguments: Any, values: Any
) -> None:
    profile = small(**{"generate__steps": 3} | values)
    arguments |= {} if task == "t2v" else {"clip": clip}
    job = tasks.TASKS[task](ask(RED, profile=profile), **arguments)
    reported: list[tuple[int, int]] = []
    for _ in render(job, progress=lambda done, total, _: reported.append((done, total))):
        pass
    (start, total), *steps = reported
    assert (start, total) == (0, num_sampling_steps(base, job))
    assert steps == [(step, total) for step in range(1, total + 1)]


def test_steps_are_counted_by_hand(small: Make, ask: Make, clip: Path, base: BaseModel) -> None:
    def count(task: str, arguments: Any, best_of: int = 1, **values: Any) -> int:
        profile = small(**{"generate__steps": 10} | values)
        request = ask(RED, BLUE, profile=profile, many=True, best_of=best_of)
        return num_sampling_steps(base, tasks.TASKS[task](request, **arguments))

    assert count("t2v", {}) == 2 * 10  # two prompts
    assert count("t2v", {"frames": 16}, best_of=3, generate__resample=2) == 2 * 3 * 5 * 2 * 10
    fast = {"generate__fast": True, "generate__stochastic_min_sigma": 0.5}
    assert count("t2v", {}, **fast) == 2 * 6
    assert count("edit", {"clip": clip}, generate__edit_strength=0.7, **fast) == 2 * 7
    # mu of 24 tokens is 0.46, so the sigmas below 0.45 are 0.41, 0.28, 0.15 and 0.
    assert count("restore", {"clip": clip}, generate__restore_strength=0.45) == 2 * 4
