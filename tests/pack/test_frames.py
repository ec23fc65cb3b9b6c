from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.geometry import Grid
from gridctl.media.clip import sample_indices
from gridctl.media.open import open_clip
from gridctl.pack.frames import (
    Selection,
    SelectionError,
    cut_positions,
    find_cuts,
    select_windows,
)
from gridctl.pack.options import PackOptions
from tests.media.clips import make_clip, textured
from tests.settings import pack_profile

GRID = Grid(rows=2, cols=2, cell=(16, 16))


def options(grid: Grid = GRID, **keys: object) -> PackOptions:
    return PackOptions.of(pack_profile(grid, **keys))


def selected(
    count: int, fps: float = 10.0, cuts: tuple[int, ...] = (), **keys: object
) -> Selection:
    return select_windows(np.arange(count) / fps, count / fps, fps, options(**keys), cuts)


def windows(selection: Selection) -> list[list[int]]:
    return [window.tolist() for window in selection.windows]


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


def test_a_uniform_grid_plays_as_long_as_its_clip() -> None:
    made = selected(13)
    assert windows(made) == [[0, 4, 8, 12]]
    assert 4 / made.fps == pytest.approx(1.3)
    single = options(Grid(rows=1, cols=1, cell=(16, 16)))
    assert windows(select_windows(np.arange(5.0), 5.0, 1.0, single)) == [[0]]


def test_uniform_repeats_frames_shown_longer() -> None:
    times = np.array([0, 0.1, 0.2, 0.3, 3.3, 3.4])  # the fourth frame is shown for 3 seconds
    made = select_windows(times, 3.5, 10.0, options(Grid(rows=2, cols=3, cell=(16, 16))))
    assert windows(made) == [[0, 1, 2, 3, 4, 5]]
    made = select_windows(times, 3.5, 10.0, options(Grid(rows=2, cols=2, cell=(16, 16))))
    assert windows(made) == [[0, 3, 3, 5]]
    assert made.fps == pytest.approx(4 / 3.5)


def test_windows_are_consecutive_grids() -> None:
    made = selected(11, sample="windows")
    assert windows(made) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (made.dropped, made.fps) == (3, 10.0)
    assert windows(selected(8, sample="windows")) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert selected(8, sample="windows").dropped == 0


def test_dropped_frames_count_selected_ones() -> None:
    chosen = selected(40, fps=10, sample="fps=30", start=1, end=2)
    assert (chosen.dropped, chosen.count) == (2, 30)
    chosen = selected(40, sample="windows", stride=4)
    assert (chosen.dropped, chosen.count) == (2, 10)


def test_stride_and_overlap() -> None:
    made = selected(16, sample="windows", stride=2, overlap=1)
    assert windows(made) == [[0, 2, 4, 6], [6, 8, 10, 12]]
    assert (made.dropped, made.fps) == (1, 5.0)  # frame 14


@given(st.integers(4, 80), st.integers(1, 4), st.integers(0, 3))
def test_each_selected_frame_is_used_or_dropped(count: int, stride: int, overlap: int) -> None:
    frames = list(range(0, count, stride))
    try:
        made = selected(count, sample="windows", stride=stride, overlap=overlap)
    except SelectionError:
        assert len(frames) < 4
        return
    used = sorted({frame for window in windows(made) for frame in window})
    assert used == frames[: len(used)]
    assert len(used) + made.dropped == len(frames)
    for before, after in pairwise(windows(made)):
        assert before[len(before) - overlap :] == after[:overlap]
    padded = selected(count, sample="windows", stride=stride, overlap=overlap, tail="pad")
    assert sorted({f for window in windows(padded) for f in window}) == frames
    assert padded.dropped == 0


def test_the_tail_can_be_an_error() -> None:
    with pytest.raises(SelectionError, match="has 3 frames left over"):
        selected(11, sample="windows", tail="error")
    assert len(selected(8, sample="windows", tail="error").windows) == 2


@pytest.mark.parametrize("tail", ["drop", "error"])
def test_a_clip_that_fills_no_grid_is_an_error(tail: str) -> None:
    for sample in ("uniform", "windows", "scenes", "fps=10"):
        with pytest.raises(SelectionError, match=r"^has 3 frames; a 2x2 grid needs 4\. Use --rows"):
            selected(3, sample=sample, tail=tail)
        assert windows(selected(3, sample=sample, tail="pad")) == [[0, 1, 2]]


def test_fps_shows_what_is_on_the_screen_at_each_tick() -> None:
    made = selected(40, fps=10, sample="fps=2.5")
    assert windows(made) == [[0, 4, 8, 12], [16, 20, 24, 28]]
    assert (made.dropped, made.fps) == (2, 2.5)
    assert windows(selected(3, fps=2, sample="fps=4")) == [[0, 0, 1, 1]]  # slower than asked for
    times = np.array([0, 0.1, 0.2, 3.0, 3.1])  # a screen that stood still
    clock = options(sample="fps=1")
    assert windows(select_windows(times, 3.2, 10.0, clock)) == [[0, 2, 2, 3]]


def test_a_long_last_frame_fills_its_time() -> None:
    times, rate = np.array([0.0, 0.5, 1.0, 1.5]), 2.0
    held = options(sample="fps=1", tail="pad")
    assert windows(select_windows(times, 6.5, rate, held)) == [[0, 2, 3, 3], [3, 3, 3]]
    until = options(sample="fps=1", tail="pad", end=3.0)
    assert windows(select_windows(times, 6.5, rate, until)) == [[0, 2, 3]]
    assert select_windows(times, 6.5, rate, options()).fps == pytest.approx(4 / 6.5)
    assert select_windows(times, 6.5, rate, options(end=1.75)).fps == pytest.approx(4 / 1.75)
    part = options(sample="windows", end=1.0, tail="pad")
    assert select_windows(times, 6.5, rate, part).fps == 2.0


def test_no_window_crosses_a_cut() -> None:
    made = selected(14, cuts=(5, 7), sample="scenes")
    assert windows(made) == [[0, 1, 2, 3], [7, 8, 9, 10]]
    assert made.dropped == 1 + 2 + 3
    padded = selected(14, cuts=(5, 7), sample="scenes", tail="pad")
    assert windows(padded) == [[0, 1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11, 12, 13]]
    with pytest.raises(SelectionError, match="in 3 scenes, none of which"):
        selected(8, cuts=(3, 6), sample="scenes")


def test_start_and_end_choose_a_part() -> None:
    made = selected(30, start=1.0, end=2.0)
    assert windows(made) == [[10, 13, 16, 19]]
    assert windows(selected(30, sample="windows", start=2.6)) == [[26, 27, 28, 29]]
    with pytest.raises(
        SelectionError, match=r"no frame from 3 seconds on; its last one is at 2\.90"
    ):
        selected(30, start=3.0)


def test_frames_after_max_grids_are_not_dropped() -> None:
    made = selected(30, sample="windows", max_grids=2)
    assert (len(made.windows), made.dropped) == (2, 0)
    assert windows(selected(30, sample="windows", max_grids=2, tail="error")) == windows(made)


def pan(count: int, seed: int = 0, speed: int = 1) -> np.ndarray:
    picture = textured(1, seed=seed)[0]
    return np.stack([np.roll(picture, speed * k, axis=1) for k in range(count)])


def test_cuts_are_found_and_motion_is_not_one(tmp_path: Path) -> None:
    shots = [pan(20, seed=seed) for seed in range(3)]
    path = make_clip(tmp_path / "film.mp4", np.concatenate(shots))
    assert find_cuts(open_clip(path), np.arange(60)) == [20, 40]
    assert find_cuts(open_clip(path), np.arange(25, 60)) == [40]


def test_a_clip_of_one_shot_has_no_cut(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "pan.mp4", pan(20, speed=9))
    assert find_cuts(open_clip(path), np.arange(20)) == []


def test_a_shot_of_a_few_frames_ends_with_a_cut() -> None:
    changes = np.full(30, 2, np.float32)
    changes[10], changes[13], changes[15] = 200, 60, 15
    assert cut_positions(changes) == [10, 13, 15]
    changes[20], changes[21] = 90, 30  # what a fade leaves over is no shot
    assert cut_positions(changes) == [10, 13, 15, 20]


def test_animation_on_twos_is_not_taken_for_cuts() -> None:
    changes = np.zeros(30, np.float32)
    changes[::2] = 20
    assert cut_positions(changes) == []
    changes[14] = 100
    assert cut_positions(changes) == [14]


def test_flashes_and_noise_are_not_cuts() -> None:
    changes = np.full(30, 4, np.float32)
    changes[10] = changes[11] = 80  # there and back
    changes[20] = 11  # too little to be one
    assert cut_positions(changes) == []
    changes[25] = 60
    assert cut_positions(changes) == [25]
