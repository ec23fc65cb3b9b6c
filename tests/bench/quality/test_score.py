"""Scores, figures and jumps, against true renders and values by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gridctl.bench.quality import (
    Case,
    Figure,
    Result,
    Score,
    judge_case,
    make_cases,
)
from gridctl.bench.quality.score import measure_jumps, ratio_of_sums
from gridctl.geometry import Grid
from gridctl.tiny.render import render_clip, render_frame
from gridctl.tiny.scene import Scene

Make = Callable[..., Any]
COUNT = 6


def drawn(case: Case, scene: Scene) -> Any:
    """A true render of `scene`, as what a case's part draws."""
    if case.is_still:
        return render_frame(scene, 0.5, (64, 64))[None]
    return render_clip(scene, 24, (64, 64))


@pytest.mark.parametrize(
    ("part", "own"), [("t2v", {"motion", "style"}), ("turn", {"turn order"}), ("image", {"style"})]
)
def test_true_renders_are_right_others_are_wrong(part: Any, own: set[str]) -> None:
    cases = make_cases(part, COUNT, 0)
    others = [*cases[1:], cases[0]]
    for case, other in zip(cases, others, strict=True):
        right = judge_case(case, drawn(case, case.scene), seed=0).right
        assert set(right) == {"shape", "color", "background", "all", *own}
        assert all(right.values())
        assert not judge_case(case, drawn(case, other.scene), seed=0).right["all"]


@pytest.mark.parametrize("part", ["i2v", "interpolate", "multiview", "edit", "restore"])
def test_a_perfect_drawing_scores_in_full(part: Any) -> None:
    for case in make_cases(part, COUNT, 0):
        result = judge_case(case, case.truth(24, (64, 64)), seed=0)
        assert all(result.right.values())
        for what, (drawn, true) in result.measures.items():
            if what.startswith("jump"):
                assert drawn == true
            else:  # nothing is left of what was to go
                assert drawn < 0.5 * true


@pytest.mark.parametrize(("part", "cut_at"), [("long windows", 44), ("long keyframes", 64)])
def test_a_long_clip_is_judged_by_end_and_seams(part: Any, cut_at: int) -> None:
    (case,) = make_cases(part, 1, 0)
    smooth = case.truth(96, (64, 64))
    result = judge_case(case, smooth, seed=0)
    assert all(result.right.values())
    (seam, usual) = result.measures["jump at a seam, beside other steps"]
    assert 0.5 * usual < seam < 1.5 * usual
    cut = smooth.copy()
    cut[cut_at : cut_at + 12] = 255 - cut[cut_at : cut_at + 12]  # where another grid begins
    result = judge_case(case, cut, seed=0)
    (seam, usual) = result.measures["jump at a seam, beside other steps"]
    assert seam > 3 * usual


def test_a_jump_at_the_end_of_a_row_is_seen() -> None:
    grid = Grid(rows=4, cols=6, cell=(64, 64))
    (case,) = make_cases("t2v", 1, 0)
    frames = case.truth(24, grid.cell)
    what = "jump at a row's end, beside other steps"
    wrap, usual = judge_case(case, frames, seed=0, grid=grid).measures[what]
    assert 0.5 * usual < wrap < 1.5 * usual
    frames[6:12] = 255 - frames[6:12]
    wrap, usual = judge_case(case, frames, seed=0, grid=grid).measures[what]
    assert wrap > 5 * usual


def test_a_decoded_neighbour_sets_the_floor_of_a_jump() -> None:
    (case,) = make_cases("vae", 1, 0)
    decoded = case.truth(24, (64, 64))
    decoded[1:] = decoded[1:] // 2 + 60
    drawn, true = judge_case(case, decoded, seed=0).measures["jump from the first frame"]
    truth = case.truth(24, (64, 64)).astype(float)
    assert true == np.abs(truth[1] - truth[0]).mean()
    assert drawn == np.abs(decoded[1] - truth[0]).mean() > true


def test_a_ratio_of_sums_counts_clips_that_stand_still() -> None:
    pairs = [(2.0, 1.0), (3.0, 2.0), (1.0, 0.0)] * 10
    figure = Figure.of(pairs, ratio_of_sums)
    assert figure.value == 2.0
    assert 1.5 < figure.low < 2.0 < figure.high < 3.5
    assert figure == Figure.of(pairs, ratio_of_sums)
    assert np.isnan(ratio_of_sums(np.array([(1.0, 0.0)])))


@pytest.mark.parametrize("part", ["edit", "restore"])
def test_an_unchanged_clip_has_changed_nothing(part: Any) -> None:
    for case in make_cases(part, COUNT, 0):
        result = judge_case(case, case.given(24, (64, 64)), seed=0)
        if part == "edit":
            changed, kept = result.right.values()
            assert (changed, kept) == (False, True)
        else:
            (pair,) = result.measures.values()
            assert pair[0] == pair[1] > 10


def test_wilsons_interval() -> None:
    score = Score(part="t2v", what="shape", right=95, count=100)
    assert score.interval == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert Score(part="t2v", what="shape", right=0, count=10).interval[0] == 0
    assert Score(part="t2v", what="shape", right=10, count=10).interval[1] == 1
    at_limit = Score(part="t2v", what="all", right=468, count=550)
    low, high = at_limit.interval
    assert high - low < 0.06


def levels(*values: int) -> Any:
    """Frames of one gray level each, (F, 32, 32, 3)."""
    return np.stack([np.full((32, 32, 3), value, np.uint8) for value in values])


def test_jumps_by_hand() -> None:
    (case,) = make_cases("t2v", 1, 0)
    frames = levels(0, 1, 2, 11, 14, 15)
    grid = Grid(rows=2, cols=3, cell=(32, 32))
    # The steps are 1, 1, 9, 3, 1; a row ends after the third frame.
    assert measure_jumps(case, frames, grid) == {
        "jump at a row's end, beside other steps": (9, 1.5)
    }
    assert measure_jumps(case, frames, Grid(rows=1, cols=6, cell=(32, 32))) == {}
    (case,) = make_cases("interpolate", 1, 0)
    truth = case.truth(6, (32, 32)).astype(float)
    first, last = measure_jumps(case, frames).values()
    assert first == (1, np.abs(truth[1] - truth[0]).mean())
    assert last == (1, np.abs(truth[5] - truth[4]).mean())
    frames[5] += 6
    assert measure_jumps(case, frames)["jump to the last frame"][0] == 7


@pytest.mark.parametrize("part", ["long windows", "long keyframes"])
def test_seams_lie_where_a_grid_ends(part: Any) -> None:
    (case,) = make_cases(part, 1, 0)
    steps = [1] * 95
    for frame in (23, 43, 63, 83):  # grids of 24 that share four frames
        steps[frame] = 2
    frames = levels(*np.concatenate([[0], np.cumsum(steps)]))
    (pair,) = measure_jumps(case, frames).values()
    assert pair == (2, 1)


def test_the_last_frames_of_a_long_clip_are_judged() -> None:
    (case,) = make_cases("long windows", 1, 0)
    clip = case.truth(96, (64, 64))
    clip[:72] = 255 - clip[:72]
    assert judge_case(case, clip, seed=0).right["all"]
    assert not judge_case(case, np.roll(clip, 24, axis=0), seed=0).right["all"]


def test_psnr_of_a_constant_error() -> None:
    (case,) = make_cases("vae", 1, 0)
    truth = case.truth(6, (32, 32))
    off = np.where(truth > 100, truth - 5, truth + 5)
    result = judge_case(case, off.astype(np.uint8), seed=0)
    assert result.psnr_db == pytest.approx(20 * np.log10(255 / 5))
    assert result.right == {}


def test_an_interval_covers_95_percent() -> None:
    figure = Figure.of([0.0, 2.0] * 200, np.mean)
    # The mean of 400 values with a standard deviation of 1: 1.96 / 20 to each side.
    assert figure.value == 1
    assert (figure.low, figure.high) == pytest.approx((0.902, 1.098), abs=0.008)


def test_wrong_readings_are_worse_than_flicker() -> None:
    def result(right: dict[str, bool], error: float) -> Result:
        return Result(part="t2v", index=0, prompt="", seed=0, right=right, temporal_error=error)

    good, flickering = result({"all": True}, 3.0), result({"all": True}, 9.0)
    wrong, worse = result({"all": False}, 1.0), result({"all": False, "shape": False}, 0.0)
    ordered = sorted([worse, flickering, good, wrong], key=lambda one: one.badness)
    assert ordered == [good, flickering, wrong, worse]
