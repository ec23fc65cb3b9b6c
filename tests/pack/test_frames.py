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


def naive(
    times: list[float],
    duration: float,
    *,
    start: float,
    end: float | None,
    stride: int,
    overlap: int,
    fps: float | None = None,
    cuts: tuple[int, ...] = (),
) -> tuple[list[list[int]], list[int], int]:
    """(padded windows, the number of frames each shares, frames left over), step by step."""
    seen = [k for k, t in enumerate(times) if t >= start and (end is None or t < end)]
    following = seen[-1] + 1
    stop = min(times[following] if following < len(times) else duration, end or duration)
    scenes: list[list[int]] = [[]]
    if fps is None:
        for frame in seen:
            if frame in cuts and scenes[-1]:
                scenes.append([])
            scenes[-1].append(frame)
    else:
        tick = times[seen[0]]
        while not scenes[-1] or tick < stop - 1e-6:
            scenes[-1].append(max(frame for frame in seen if times[frame] <= tick + 1e-6))
            tick = times[seen[0]] + len(scenes[-1]) / fps
    windows, shared, left = [], [], 0
    for scene in scenes:
        scene, place = scene[::stride], 0
        while place == 0 or place + overlap < len(scene):
            windows.append(scene[place : place + 4])
            shared.append(overlap if place else 0)
            if len(windows[-1]) < 4:
                left += len(windows[-1]) - shared[-1]
            place += 4 - overlap
    return windows, shared, left


STEPS = st.lists(st.integers(1, 9), min_size=2, max_size=40)  # in eighths of a second: exact


@given(
    steps=STEPS,
    ends=st.tuples(st.integers(0, 60), st.integers(1, 200) | st.none()),
    stride=st.integers(1, 3),
    overlap=st.integers(0, 3),
    fps=st.sampled_from([None, 1.0, 2.0, 8.0, 16.0]),
    cuts=st.sets(st.integers(1, 40), max_size=4),
)
def test_windows_are_those_of_a_naive_twin(
    steps: list[int],
    ends: tuple[int, int | None],
    stride: int,
    overlap: int,
    fps: float | None,
    cuts: set[int],
) -> None:
    *times, duration = (sum(steps[:k]) / 8 for k in range(len(steps) + 1))
    start, end = ends[0] / 8, None if ends[1] is None else (ends[0] + ends[1]) / 8
    if times[-1] < start or not any(start <= t < (end or duration) for t in times):
        return
    keys: dict[str, object] = {"start": start, "end": end, "stride": stride, "overlap": overlap}
    if fps is not None:
        keys["sample"], cuts = f"fps={fps:g}", set()
    else:
        keys["sample"] = "scenes" if cuts else "windows"
    padded, shared, left = naive(
        times, duration, fps=fps, cuts=tuple(cuts),
        start=start, end=end, stride=stride, overlap=overlap,
    )  # fmt: skip
    at = tuple(sorted(cut for cut in cuts if cut < len(times)))
    made = select_windows(np.array(times), duration, 9.0, options(**keys, tail="pad"), at)
    assert (windows(made), list(made.shared), made.dropped) == (padded, shared, 0)
    full = [window for window in padded if len(window) == 4]
    if not full:
        return
    made = select_windows(np.array(times), duration, 9.0, options(**keys), at)
    assert (windows(made), made.dropped) == (full, left)
    many = select_windows(np.array(times), duration, 9.0, options(**keys, max_grids=1), at)
    assert (windows(many), many.dropped) == (full[:1], left if len(full) == 1 else 0)


def test_rounding_loses_no_frame() -> None:
    times = np.array([0, 0.3 - 0.2, 0.2, 0.3, 0.4])  # the second is just before 0.1
    assert windows(select_windows(times, 0.5, 10.0, options(sample="windows", start=0.1))) == [
        [1, 2, 3, 4]
    ]
    times = np.arange(8) * 0.1  # the fourth is just after 0.3
    assert windows(select_windows(times, 0.8, 10.0, options(sample="fps=10"))) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]


@pytest.mark.parametrize(("gap", "picks"), [(2.4, [0, 2, 3, 5]), (2.6, [0, 2, 2, 5])])
def test_uniform_goes_by_time_over_long_gaps(gap: float, picks: list[int]) -> None:
    times = np.array([0, 1, 2, 2 + gap, 3 + gap, 4 + gap])
    assert windows(select_windows(times, 5 + gap, 1.0, options())) == [picks]


def test_the_rate_counts_from_the_first_chosen_frame() -> None:
    assert selected(30, start=1.0, end=2.0).fps == 4.0
    assert selected(30, sample="windows", start=1.0, end=2.0).fps == 10.0
    single = options(Grid(rows=1, cols=1, cell=(16, 16)))
    assert select_windows(np.arange(5.0), 5.0, 7.5, single).fps == 7.5  # one frame has no rate


@pytest.mark.parametrize(
    ("count", "size"), [(1, (1, 1)), (6, (2, 3)), (8, (2, 4)), (12, (3, 4)), (23, (4, 5))]
)
def test_a_short_clip_is_told_the_grid_it_fills(count: int, size: tuple[int, int]) -> None:
    large = options(Grid(rows=4, cols=6, cell=(16, 16)))
    with pytest.raises(SelectionError, match=f"Use --rows {size[0]} --cols {size[1]}, or"):
        select_windows(np.arange(count) / 10, count / 10, 10.0, large)


def test_frames_too_few_are_counted_after_the_stride() -> None:
    with pytest.raises(SelectionError, match=r"^has 3 frames;"):
        selected(5, sample="windows", stride=2)


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


def test_a_cut_stands_out_three_times() -> None:
    changes = np.zeros(20, np.float32)
    changes[10] = 11.9
    assert cut_positions(changes) == []
    changes[10] = 12
    assert cut_positions(changes) == [10]
    changes[8] = 4.1
    assert cut_positions(changes) == []
    changes[8] = 4
    assert cut_positions(changes) == [10]
    changes[13], changes[14] = 4, 12  # three away counts, four away does not
    assert cut_positions(changes) == [10, 14]
    changes[13] = 4.1
    assert cut_positions(changes) == []
