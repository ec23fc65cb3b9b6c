from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.pack.options import PackOptions
from gridctl.pack.sample import Plan, plan_clip, sample_indices

GRID = Grid(rows=2, cols=2, cell=(16, 16))


def plan(count: int, fps: float = 10.0, cuts: tuple[int, ...] = (), **options: object) -> Plan:
    chosen = PackOptions(grid=GRID, **options)  # type: ignore[arg-type]
    return plan_clip(np.arange(count) / fps, fps, chosen, cuts)


def windows(plan: Plan) -> list[list[int]]:
    return [window.tolist() for window in plan.windows]


@given(st.integers(1, 500), st.integers(1, 60))
def test_uniform_is_even_and_keeps_both_ends(count: int, wanted: int) -> None:
    picks = sample_indices(count, wanted)
    assert len(picks) == min(count, wanted)
    assert picks[0] == 0
    if wanted > 1:
        assert picks[-1] == count - 1
    steps = {b - a for a, b in pairwise(picks)}
    assert all(step >= 1 for step in steps)
    assert not steps or max(steps) - min(steps) <= 1


def test_uniform_plays_as_long_as_its_clip() -> None:
    made = plan(13)
    assert windows(made) == [[0, 4, 8, 12]]
    assert 4 / made.fps == pytest.approx(1.3)
    single = PackOptions(grid=Grid(rows=1, cols=1, cell=(16, 16)))
    assert windows(plan_clip(np.arange(5.0), 1.0, single)) == [[0]]


def test_windows_fill_grid_after_grid_and_count_what_is_left() -> None:
    made = plan(11, sample="windows")
    assert windows(made) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (made.dropped, made.fps) == (3, 10.0)
    assert windows(plan(8, sample="windows")) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert plan(8, sample="windows").dropped == 0


def test_what_is_left_is_of_the_frames_that_were_asked_for() -> None:
    chosen = plan(40, fps=10, sample="fps=30", start_seconds=1, end_seconds=2)
    assert (chosen.dropped, chosen.count) == (2, 30)
    chosen = plan(40, sample="windows", stride=4)
    assert (chosen.dropped, chosen.count) == (2, 10)


def test_stride_and_overlap() -> None:
    made = plan(16, sample="windows", stride=2, overlap=1)
    assert windows(made) == [[0, 2, 4, 6], [6, 8, 10, 12]]
    assert (made.dropped, made.fps) == (1, 5.0)  # frame 14


@given(st.integers(4, 80), st.integers(1, 4), st.integers(0, 3))
def test_no_frame_is_lost_unseen(count: int, stride: int, overlap: int) -> None:
    frames = list(range(0, count, stride))
    try:
        made = plan(count, sample="windows", stride=stride, overlap=overlap)
    except InputError:
        assert len(frames) < 4
        return
    used = sorted({frame for window in windows(made) for frame in window})
    assert used == frames[: len(used)]
    assert len(used) + made.dropped == len(frames)
    for before, after in pairwise(windows(made)):
        assert before[len(before) - overlap :] == after[:overlap]
    padded = plan(count, sample="windows", stride=stride, overlap=overlap, tail="pad")
    assert sorted({f for window in windows(padded) for f in window}) == frames
    assert padded.dropped == 0


def test_the_tail_can_be_an_error() -> None:
    with pytest.raises(InputError, match="has 3 frames left over"):
        plan(11, sample="windows", tail="error")
    assert len(plan(8, sample="windows", tail="error").windows) == 2


@pytest.mark.parametrize("tail", ["drop", "error"])
def test_a_clip_that_fills_no_grid_is_an_error(tail: str) -> None:
    for sample in ("uniform", "windows", "scenes", "fps=10"):
        with pytest.raises(InputError, match=r"^has 3 frames; a 2x2 grid needs 4\. Use --rows"):
            plan(3, sample=sample, tail=tail)
        assert windows(plan(3, sample=sample, tail="pad")) == [[0, 1, 2]]


def test_fps_shows_what_is_on_the_screen_at_each_tick() -> None:
    made = plan(40, fps=10, sample="fps=2.5")
    assert windows(made) == [[0, 4, 8, 12], [16, 20, 24, 28]]
    assert (made.dropped, made.fps) == (2, 2.5)
    assert windows(plan(3, fps=2, sample="fps=4")) == [[0, 0, 1, 1]]  # slower than asked for
    times = np.array([0, 0.1, 0.2, 3.0, 3.1])  # a screen that stood still
    options = PackOptions(grid=GRID, sample="fps=1")
    assert windows(plan_clip(times, 10.0, options)) == [[0, 2, 2, 3]]


def test_scenes_are_not_crossed() -> None:
    made = plan(14, cuts=(5, 7), sample="scenes")
    assert windows(made) == [[0, 1, 2, 3], [7, 8, 9, 10]]
    assert made.dropped == 1 + 2 + 3
    padded = plan(14, cuts=(5, 7), sample="scenes", tail="pad")
    assert windows(padded) == [[0, 1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11, 12, 13]]
    with pytest.raises(InputError, match="in 3 scenes, none of which"):
        plan(8, cuts=(3, 6), sample="scenes")


def test_start_and_end_choose_a_part() -> None:
    made = plan(30, start_seconds=1.0, end_seconds=2.0)
    assert windows(made) == [[10, 13, 16, 19]]
    assert windows(plan(30, sample="windows", start_seconds=2.6)) == [[26, 27, 28, 29]]
    with pytest.raises(InputError, match=r"no frame from 3 seconds on; its last one is at 2\.90"):
        plan(30, start_seconds=3.0)


def test_max_grids_ends_without_counting_what_nobody_asked_for() -> None:
    made = plan(30, sample="windows", max_grids=2)
    assert (len(made.windows), made.dropped) == (2, 0)
    assert windows(plan(30, sample="windows", max_grids=2, tail="error")) == windows(made)
