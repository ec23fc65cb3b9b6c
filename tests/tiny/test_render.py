from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.tiny.render import (
    frame_times,
    mark_color,
    pose,
    render_clip,
    render_frame,
    shape_distance,
)
from gridctl.tiny.scene import TURN, Scene, sample_scene
from gridctl.tiny.words import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SOLIDS, STYLES

CIRCLE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="standing still"
)
CUBE = Scene(kind="solid", shape="cube", color="blue", background="beige", motion=TURN, size=0.36)
SIZE = (64, 64)


def ink(frame: npt.NDArray[np.uint8], scene: Scene) -> npt.NDArray[np.float64]:
    """Distance of each pixel from the background, (H, W)."""
    background = np.array(BACKGROUNDS[scene.background], np.float64)
    return np.asarray(np.abs(frame - background).sum(-1))


def center(frame: npt.NDArray[np.uint8], scene: Scene) -> npt.NDArray[np.float64]:
    """(x, y) of the ink's centre of mass, in pixels."""
    weight = ink(frame, scene)
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def clip_of(motion: str, **changes: Any) -> tuple[npt.NDArray[np.uint8], Scene]:
    rng = np.random.default_rng(3)
    scene = sample_scene(rng, kind="shape", motion=motion, held_out=None)
    scene = replace(scene, **changes)
    return render_clip(scene, 12, SIZE), scene


@given(st.integers(0, 2**32 - 1), st.sampled_from([(64, 64), (52, 80), (97, 55)]))
@settings(max_examples=60, deadline=None)
def test_any_scene_renders_with_a_clean_border(seed: int, size: tuple[int, int]) -> None:
    scene = sample_scene(np.random.default_rng(seed), held_out=None)
    clip = render_clip(scene, 5, size)
    assert clip.shape == (5, size[1], size[0], 3)
    assert clip.dtype == np.uint8
    border = np.ones(clip.shape[1:3], bool)
    border[1:-1, 1:-1] = False
    assert (clip[:, border] == BACKGROUNDS[scene.background]).all()
    assert all(ink(frame, scene).max() > 60 for frame in clip)


def test_a_clip_is_its_frames_and_the_same_each_time() -> None:
    scene = replace(CIRCLE, style="sketch", motion="growing", speed=2.0, phase=0.3)
    clip = render_clip(scene, 4, SIZE)
    for frame, t in zip(clip, (0, 1 / 3, 2 / 3, 1), strict=True):
        assert (frame == render_frame(scene, t, SIZE)).all()


def test_frame_times_of_shapes_and_turns() -> None:
    assert frame_times(CIRCLE, 5) == [0, 0.25, 0.5, 0.75, 1]
    assert frame_times(CUBE, 4) == [0, 0.25, 0.5, 0.75]
    assert frame_times(CIRCLE, 1) == frame_times(CUBE, 1) == [0]


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_equal_those_to_a_lattice_edge(shape: str) -> None:
    # The naive twin: find the edge as sign changes on a fine lattice, and measure to it.
    axis = np.linspace(-1.2, 1.2, 601, dtype=np.float32)
    lattice = shape_distance(shape, axis[None, :], axis[:, None])
    inside = lattice < 0
    rows, columns = np.nonzero(
        (inside[1:, 1:] != inside[:-1, 1:]) | (inside[1:, 1:] != inside[1:, :-1])
    )
    edge = np.stack([axis[columns], axis[rows]], -1)
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (200, 2)).astype(np.float32)
    naive = np.linalg.norm(points[:, None] - edge[None], axis=-1).min(1)
    exact = shape_distance(shape, points[:, 0], points[:, 1])
    assert np.abs(np.abs(exact) - naive).max() < 0.01
    reach = np.hypot(axis[columns], axis[rows]).max()
    assert 0.85 < reach <= 1.01  # fits the unit circle, and fills it


@pytest.mark.parametrize(("shape", "style"), list(product(SHAPES, STYLES)))
def test_the_drawing_does_not_depend_on_the_resolution(shape: str, style: str) -> None:
    scene = replace(CIRCLE, shape=shape, style=style, x=0.47, y=0.52, size=0.3)
    small = render_frame(scene, 0, SIZE).astype(float)
    large = render_frame(scene, 0, (512, 512)).astype(float)
    shrunk = large.reshape(64, 8, 64, 8, 3).mean((1, 3))
    assert np.abs(small - shrunk).mean() < 0.5
    assert np.abs(small - shrunk).max() < 90  # at sharp tips, out of 215


@pytest.mark.parametrize("color", COLORS)
def test_a_flat_shape_has_exactly_its_color(color: str) -> None:
    frame = render_frame(replace(CIRCLE, color=color), 0, SIZE)
    assert tuple(frame[32, 32]) == COLORS[color]


@pytest.mark.parametrize("shape", SHAPES)
def test_styles_look_different(shape: str) -> None:
    frames = [
        render_frame(replace(CIRCLE, shape=shape, style=style, size=0.16), 0, SIZE).astype(int)
        for style in STYLES
    ]
    box = (slice(20, 44), slice(20, 44))
    for one, other in combinations(frames, 2):
        assert np.abs(one[box] - other[box]).mean() > 4


@pytest.mark.parametrize("style", ["outline", "striped", "sketch"])
def test_a_style_is_attached_to_its_object(style: str) -> None:
    scene = replace(CIRCLE, style=style, motion="moving right", x=0.25, speed=0.5, phase=0.4)
    first, last = render_clip(scene, 2, SIZE)
    assert (np.roll(first, 32, axis=1) == last).all()


@pytest.mark.parametrize(
    ("motion", "direction"),
    [
        ("moving right", (1, 0)),
        ("moving left", (-1, 0)),
        ("moving up", (0, -1)),
        ("moving down", (0, 1)),
    ],
)
def test_straight_motion_is_steady(motion: str, direction: tuple[int, int]) -> None:
    clip, scene = clip_of(motion)
    path = np.array([center(frame, scene) for frame in clip])
    step = scene.speed * 64 / 11
    assert np.diff(path, axis=0) == pytest.approx(np.tile(direction, (11, 1)) * step, abs=0.3)


@pytest.mark.parametrize(
    ("motion", "sign"), [("moving clockwise", 1), ("moving counter-clockwise", -1)]
)
def test_orbits_go_round_the_center_of_the_frame(motion: str, sign: int) -> None:
    clip, scene = clip_of(motion, shape="circle", style="flat")
    path = np.array([center(frame, scene) for frame in clip]) - 31.5
    angles = np.unwrap(np.arctan2(path[:, 1], path[:, 0]))  # y runs down: grows clockwise
    assert np.diff(angles) == pytest.approx(sign * 2 * np.pi * scene.speed / 11, abs=0.03)


def test_growing_and_shrinking_change_the_area() -> None:
    for motion, order in (("growing", 1), ("shrinking", -1)):
        clip, scene = clip_of(motion)
        areas = [ink(frame, scene).sum() for frame in clip][::order]
        assert all(later > earlier for earlier, later in pairwise(areas))
        assert areas[-1] > 3 * areas[0]


def test_bouncing_goes_up_and_down_several_times() -> None:
    _, scene = clip_of("bouncing")
    path = np.array([center(frame, scene) for frame in render_clip(scene, 48, SIZE)])
    assert np.ptp(path[:, 0]) < 0.5
    assert np.ptp(path[:, 1]) > 25
    turns = np.diff(np.sign(np.diff(path[:, 1])))
    assert 3 <= np.count_nonzero(turns) <= 5


def test_every_motion_was_looked_at() -> None:
    straight = {"moving right", "moving left", "moving up", "moving down"}
    others = {"growing", "shrinking", "bouncing", "standing still"}
    assert straight | others | {"moving clockwise", "moving counter-clockwise"} == set(MOTIONS)


def test_standing_still_stands_still() -> None:
    clip, _ = clip_of("standing still")
    assert (clip == clip[0]).all()


@pytest.mark.parametrize("solid", SOLIDS)
def test_a_full_turn_closes_and_repeats_no_view(solid: str) -> None:
    scene = replace(CUBE, shape=solid)
    clip = render_clip(scene, 12, SIZE).astype(int)
    closed = render_frame(scene, 1.0, SIZE).astype(int)
    assert np.abs(clip[0] - closed).mean() < 0.05
    # The views from behind a pyramid differ least: the mark only peeks over an edge.
    for one, other in combinations(clip, 2):
        assert np.abs(one - other).mean() > 0.3


@pytest.mark.parametrize("solid", SOLIDS)
def test_the_mark_starts_in_front_and_goes_right(solid: str) -> None:
    scene = replace(CUBE, shape=solid, color="red", background="navy")  # so the mark is white

    def mark(t: float) -> npt.NDArray[np.float64]:
        frame = render_frame(scene, t, (128, 128)).astype(int)
        rows, columns = np.nonzero(frame.min(-1) > 90)
        assert len(columns) > 60
        return np.array([columns.mean(), rows.mean()])

    front, right, left = mark(0), mark(0.1), mark(0.9)
    assert front[0] == pytest.approx(63.5, abs=0.6)
    assert right[0] - front[0] > 4
    assert right[0] + left[0] == pytest.approx(2 * front[0], abs=2)


@pytest.mark.parametrize("solid", SOLIDS)
def test_solids_are_the_same_at_every_resolution(solid: str) -> None:
    scene = replace(CUBE, shape=solid)
    small = render_frame(scene, 0.07, SIZE).astype(float)
    large = render_frame(scene, 0.07, (512, 512)).astype(float)
    assert np.abs(small - large.reshape(64, 8, 64, 8, 3).mean((1, 3))).mean() < 1


# At 200 pixels: the object's radius is 72 of them, its centre at (100, 100).
LARGE = (200, 200)


@pytest.mark.parametrize(
    ("solid", "width", "height"),
    [
        # In radii, seen from 30 degrees above: cos 30 of what stands, sin 30 of what lies.
        ("cube", 1.12, 1.12 * 0.866 + 1.12 * 0.5),
        ("pyramid", 1.28, (0.86 + 0.42) * 0.866 + 0.64 * 0.5),
        ("cylinder", 1.2, 1.32 * 0.866 + 1.2 * 0.5),
        ("torus", 2 * (0.66 + 0.3), 2 * (0.66 * 0.5 + 0.3)),
    ],
)
def test_solids_have_the_size_of_geometry(solid: str, width: float, height: float) -> None:
    frame = render_frame(replace(CUBE, shape=solid), 0, LARGE)
    rows, columns = np.nonzero(ink(frame, CUBE) > 30)
    assert np.ptp(columns) + 1 == pytest.approx(width * 72, abs=2)
    assert np.ptp(rows) + 1 == pytest.approx(height * 72, abs=2)


@pytest.mark.parametrize(
    ("t", "x", "up", "normal"),
    [
        (0, 0.4, 0.56 * 0.866 + 0.1, (0, 0, 1)),  # the top, behind its middle
        (0, 0.4, -0.56 * 0.5, (0, -1, 0)),  # the front, right of the mark
        (1 / 8, -0.396, -0.198, (-0.707, -0.707, 0)),  # half a quarter on: left of the edge
        (1 / 8, 0.679, -0.057, (0.707, -0.707, 0)),  # and right of it
    ],
)
def test_faces_are_lit_from_the_upper_left(
    t: float, x: float, up: float, normal: tuple[float, float, float]
) -> None:
    frame = render_frame(CUBE, t, LARGE)
    shade = 0.45 + 0.55 * np.dot(normal, (-0.384, -0.512, 0.768))
    expected = np.array(COLORS["blue"]) * shade
    assert frame[round(99.5 - 72 * up), round(99.5 + 72 * x)] == pytest.approx(expected, abs=1)


def test_the_mark_is_a_stripe_of_half_width_24_percent() -> None:
    frame = render_frame(replace(CUBE, color="red", background="navy"), 0, LARGE)
    front = frame[round(99.5 + 72 * 0.56 * 0.5)]
    marked = front.min(-1) > 90
    assert marked.sum() == pytest.approx(2 * 0.24 * 72, abs=1.5)
    assert front[100].tolist() == [round(245 * (0.45 + 0.55 * 0.512))] * 3


@pytest.mark.parametrize("color", COLORS)
def test_a_mark_is_dark_on_light_colors(color: str) -> None:
    is_light = color in ("yellow", "orange", "cyan", "pink")
    assert mark_color(color) == ((30, 30, 30) if is_light else (245, 245, 245))


def seen(scene: Scene, x: float, y: float) -> tuple[int, ...]:
    """The pixel of a shape of radius 80 at (x, y) radii from its centre."""
    frame = render_frame(replace(scene, size=0.4), 0, LARGE)
    return tuple(int(value) for value in frame[round(99.5 + 80 * y), round(99.5 + 80 * x)])


def test_stripes_are_half_as_bright_and_have_a_period() -> None:
    striped = replace(CIRCLE, style="striped")
    across = {at: seen(striped, at / 2**0.5, -at / 2**0.5) for at in (0, 0.1, 0.2, 0.4, 0.5, 0.7)}
    dark = {at for at, pixel in across.items() if pixel == (108, 12, 20)}
    bright = {at for at, pixel in across.items() if pixel == COLORS["red"]}
    assert dark == {0, 0.1, 0.5, 0.7}  # dark to 0.15, and from 0.45 to 0.75
    assert bright == {0.2, 0.4}


def test_an_outline_is_a_quarter_of_the_radius_wide() -> None:
    frame = render_frame(replace(CIRCLE, style="outline", size=0.4), 0, LARGE)
    row = ink(frame, CIRCLE)[100] / ink(frame, CIRCLE).max()
    assert row.sum() == pytest.approx(2 * 0.24 * 80, abs=1)


def test_a_sketch_is_hatched_within_its_outline() -> None:
    sketch = replace(CIRCLE, style="sketch")
    inked = [seen(sketch, at / 2**0.5, at / 2**0.5) == COLORS["red"] for at in (0, 0.28, 0.56)]
    assert inked == [True, False, True]  # (x + y) / sqrt 2 has the period 0.56


def test_a_sketch_wobbles_by_its_phase() -> None:
    square = replace(CIRCLE, shape="square", style="sketch", size=0.4)

    def top(phase: float) -> list[int]:
        """The first inked row of each column of the upper edge."""
        frame = ink(render_frame(replace(square, phase=phase), 0, LARGE), CIRCLE)
        return (frame[:, 60:140] > 120).argmax(0).tolist()

    assert top(0.5) == top(0)  # up and down, the wobble has twice the phase
    assert top(0.25) != top(0)


@pytest.mark.parametrize("size", [(64, 100), (97, 55)])
def test_the_world_is_the_centered_square(size: tuple[int, int]) -> None:
    frame = render_frame(replace(CIRCLE, x=0.6), 0, size)
    width, height = size
    middle = [width / 2 + 0.1 * min(size) - 0.5, height / 2 - 0.5]
    assert center(frame, CIRCLE) == pytest.approx(middle, abs=0.2)


@pytest.mark.parametrize(
    ("motion", "t", "expected"),
    [
        ("growing", 0.5, (0.5, 0.5, 0.2 * 1.5)),  # from 0.2 to twice that, steadily
        ("growing", 0.75, (0.5, 0.5, 0.2 * 1.75)),
        ("bouncing", 0.25, (0.5, 0.5 - 0.42, 0.2)),  # two bounces: the first one's top
        ("bouncing", 0.125, (0.5, 0.5 - 0.42 * 0.75, 0.2)),  # 4 x 1/4 x 3/4
        ("bouncing", 0.5, (0.5, 0.5, 0.2)),
        ("moving left", 0.25, (0, 0.5, 0.2)),
    ],
)
def test_poses_by_hand(motion: str, t: float, expected: tuple[float, float, float]) -> None:
    scene = replace(CIRCLE, motion=motion, size=0.2, speed=2.0)
    assert pose(scene, t) == pytest.approx(expected)
