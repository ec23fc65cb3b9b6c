"""Readings, confidence and temporal error by values worked out by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gridctl.tiny.judge import Reading, judge_clip
from gridctl.tiny.judge.verdict import NOTHING, best_reading
from gridctl.tiny.render import render_clip, render_frame
from gridctl.tiny.scene import Scene
from gridctl.tiny.words import BACKGROUNDS

SIZE = (64, 64)
COUNT = 24  # frames of a clip


def circle(**changes: Any) -> Scene:
    scene = Scene(
        kind="shape", shape="circle", color="red", background="black", motion="standing still",
        size=0.25,
    )  # fmt: skip
    return replace(scene, **changes)


def test_a_reading_is_the_name_of_least_cost() -> None:
    costs = np.array([[0.1, 0.3], [0.1, 0.3], [0.1, 0.3], [0.4, 0.3]], np.float32)
    reading = best_reading(costs, ("a", "b"), most=0.2)
    # The means are 0.175 and 0.3, and 3 of 4 frames agree; 0.002 is added to both means.
    assert reading == Reading("a", round((1 - 0.177 / 0.302) * 0.75, 4))
    assert best_reading(costs, ("a", "b"), most=0.17) == NOTHING
    assert best_reading(costs, ("a", "b"), most=0.2, least=0.42) == NOTHING
    costs[2] = 0.4, 0.3  # two of four
    assert best_reading(costs, ("a", "b"), most=1) == NOTHING
    assert best_reading(costs[:, ::-1], ("a", "b"), most=1) == NOTHING


def test_flicker_without_an_object_is_its_own_size() -> None:
    clip = np.full((COUNT, 64, 64, 3), 128, np.uint8)
    clip[::2] -= 10
    clip[1::2] += 10
    assert judge_clip(clip).temporal_error == pytest.approx(10)


def test_flicker_of_the_background_is_its_mean_square() -> None:
    clip = render_clip(circle(), COUNT, SIZE)
    rows, columns = np.mgrid[:64, :64]
    away = np.hypot(columns + 0.5 - 32, rows + 0.5 - 32)
    clip[::2, away > 30] += 8  # 4 levels to each side of the mean, far from the object
    flickering = (away > 30).sum() / (away > 1.1 * 16 + 2).sum()
    assert judge_clip(clip).temporal_error == pytest.approx(4 * flickering**0.5, abs=0.05)


def test_flicker_of_the_object_is_its_mean_square() -> None:
    clip = render_clip(circle(), COUNT, SIZE).astype(int)
    inside = clip[0, ..., 0] > 200
    clip[::2, inside] -= 12
    # Of a square of half side 1.15, a disc of 0.92 takes pi 0.92^2 / 2.3^2; 6 levels of each.
    expected = 6 * (np.pi * 0.92**2 / 2.3**2) ** 0.5
    error = judge_clip(clip.clip(0).astype(np.uint8)).temporal_error
    assert error == pytest.approx(expected, rel=0.06)


def test_softness_costs_nothing() -> None:
    clip = render_clip(circle(motion="growing", size=0.2, speed=2.1), COUNT, SIZE)
    soft = clip.astype(float)
    for axis in (1, 2):
        soft = (np.roll(soft, 1, axis) + soft + np.roll(soft, -1, axis)) / 3
    clean = judge_clip(clip).temporal_error
    error = judge_clip(soft.round().astype(np.uint8)).temporal_error
    assert error is not None
    assert clean is not None
    assert error < 0.95 * clean


@pytest.mark.parametrize(("shown", "read"), [(19, "circle"), (17, None)])
def test_three_frames_of_four_must_agree(shown: int, read: str | None) -> None:
    clip = render_clip(circle(), COUNT, SIZE)
    clip[shown:] = BACKGROUNDS["black"]
    assert judge_clip(clip).shape.value == read


def test_confidence_in_a_motion_falls_with_its_error() -> None:
    frames = [render_frame(circle(x=0.5 + (-1) ** k / 64), 0, SIZE) for k in range(COUNT)]
    motion = judge_clip(np.stack(frames)).motion
    assert motion is not None
    assert motion.value == "standing still"
    assert motion.confidence == pytest.approx(1 - (1 / 64) / 0.04, abs=0.03)


@pytest.mark.parametrize(("share", "read"), [(0.1, "red"), (0.35, None)])
def test_an_object_of_two_colors_has_none(share: float, read: str | None) -> None:
    clip = render_clip(circle(), COUNT, SIZE)
    inside = np.argwhere(clip[0, ..., 0] > 200)
    rows, columns = inside[: int(share * len(inside))].T
    clip[:, rows, columns] = (30, 80, 235)
    assert judge_clip(clip).color.value == read
