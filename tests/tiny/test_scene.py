from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import UsageError
from gridctl.tiny.render import pose
from gridctl.tiny.scene import MARGIN, Scene, is_held_out, sample_scene
from gridctl.tiny.words import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SOLIDS, STYLES

RED_CIRCLE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="moving right"
)
seeds = st.integers(0, 2**32 - 1)


def shape_triples() -> list[Scene]:
    return [
        replace(RED_CIRCLE, color=color, shape=shape, motion=motion)
        for color, shape, motion in product(COLORS, SHAPES, MOTIONS)
    ]


def test_the_world_is_as_large_as_promised() -> None:
    assert len(SHAPES) >= 6
    assert len(SOLIDS) == 4
    assert (len(COLORS), len(BACKGROUNDS), len(MOTIONS), len(STYLES)) == (8, 5, 10, 4)


def test_no_color_is_near_another_or_near_a_background() -> None:
    def distance(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
        return float(np.linalg.norm(np.subtract(a, b)))

    assert min(distance(a, b) for a, b in combinations(COLORS.values(), 2)) > 95
    assert min(distance(a, b) for a, b in product(COLORS.values(), BACKGROUNDS.values())) > 95
    assert min(distance(a, b) for a, b in combinations(BACKGROUNDS.values(), 2)) > 75


def test_one_triple_in_ten_is_held_out() -> None:
    held_out = [scene for scene in shape_triples() if is_held_out(scene)]
    assert len(held_out) * 10 == len(shape_triples())
    # What the shipped weights never saw; these must not move.
    assert is_held_out(RED_CIRCLE)
    assert not is_held_out(replace(RED_CIRCLE, color="green"))
    assert not is_held_out(replace(RED_CIRCLE, motion="moving left"))
    assert is_held_out(replace(RED_CIRCLE, color="green", shape="heart", motion="moving up"))
    cube = Scene(kind="solid", shape="cube", color="red", background="black", motion="turning")
    assert is_held_out(cube)
    assert not is_held_out(replace(cube, background="white"))
    # orange is 4 and navy 3: 4 + 3 x 0 + 2 x 3 is 10
    assert is_held_out(replace(cube, color="orange", background="navy"))


def test_training_sees_every_pair_of_attributes() -> None:
    seen = [scene for scene in shape_triples() if not is_held_out(scene)]
    for one, other in combinations(("color", "shape", "motion"), 2):
        pairs = {(getattr(scene, one), getattr(scene, other)) for scene in seen}
        everything = {(getattr(s, one), getattr(s, other)) for s in shape_triples()}
        assert pairs == everything


@given(seeds)
def test_sampling_keeps_held_out_combinations_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert not is_held_out(sample_scene(rng))
    assert is_held_out(sample_scene(rng, held_out=True))


def test_sampling_reaches_everything() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, held_out=None) for _ in range(800)]
    for field, names in (
        ("shape", {*SHAPES, *SOLIDS}),
        ("color", set(COLORS)),
        ("background", set(BACKGROUNDS)),
        ("motion", {*MOTIONS, "turning"}),
        ("style", set(STYLES)),
    ):
        assert {getattr(scene, field) for scene in scenes} == names
    assert any(is_held_out(scene) for scene in scenes)


def test_a_fifth_of_the_scenes_are_solids() -> None:
    rng = np.random.default_rng(0)
    solids = sum(sample_scene(rng, held_out=None).kind == "solid" for _ in range(2000))
    assert solids == pytest.approx(400, abs=54)  # three standard deviations


@pytest.mark.parametrize(
    ("motion", "low", "high"),
    [
        ("moving up", 0.2, 0.27),
        ("moving clockwise", 0.2, 0.24),
        ("growing", 0.2, 0.22),
        ("shrinking", 0.4, 0.46),
        ("bouncing", 0.2, 0.25),
        ("standing still", 0.2, 0.36),
    ],
)
def test_radii_of_each_motion(motion: str, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    sizes = [sample_scene(rng, kind="shape", motion=motion, held_out=None).size for _ in range(300)]
    assert (min(sizes), max(sizes)) == pytest.approx((low, high), abs=0.05 * (high - low))
    assert low <= min(sizes)
    assert max(sizes) <= high


def test_the_same_seed_draws_the_same_scenes() -> None:
    one, other = np.random.default_rng(7), np.random.default_rng(7)
    assert [sample_scene(one) for _ in range(5)] == [sample_scene(other) for _ in range(5)]


def test_attributes_can_be_fixed() -> None:
    rng = np.random.default_rng(0)
    assert sample_scene(rng, shape="torus", color="blue").kind == "solid"
    scene = sample_scene(rng, kind="shape", motion="bouncing", style="sketch")
    assert (scene.motion, scene.style) == ("bouncing", "sketch")


def test_a_fixed_held_out_combination_is_refused() -> None:
    with pytest.raises(UsageError, match="not held out"):
        sample_scene(np.random.default_rng(0), shape="circle", color="red", motion="moving right")


@pytest.mark.parametrize(
    ("field", "value"), [("shape", "cube"), ("color", "mauve"), ("motion", "turning")]
)
def test_an_unknown_name_is_refused(field: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{field} '{value}' is not in the toy world; choose"):
        replace(RED_CIRCLE, **{field: value})


@given(seeds, st.floats(0, 1))
def test_objects_stay_wholly_inside_the_frame(seed: int, t: float) -> None:
    scene = sample_scene(np.random.default_rng(seed), held_out=None)
    x, y, radius = pose(scene, t)
    assert radius + MARGIN - 1e-9 <= min(x, y)
    assert max(x, y) <= 1 - radius - MARGIN + 1e-9


@given(seeds)
def test_motions_are_wide_enough_to_be_seen(seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), kind="shape", held_out=None)
    path = np.array([pose(scene, t) for t in np.linspace(0, 1, 1001)])
    extent = path.max(0) - path.min(0)
    ratio = path[:, 2].max() / path[:, 2].min()
    if scene.motion in ("growing", "shrinking"):
        assert ratio >= 1.9
        assert extent[:2].max() == 0
    elif scene.motion == "standing still":
        assert extent.max() == 0
    else:
        assert extent[:2].max() >= 0.39
        assert ratio == 1


@pytest.mark.parametrize("motion", ["moving clockwise", "moving counter-clockwise", "bouncing"])
@given(seed=seeds)
def test_cyclic_motions_start_and_end_in_one_place(motion: str, seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), kind="shape", motion=motion, held_out=None)
    path = np.array([pose(scene, t) for t in np.linspace(0, 1, 101)])
    assert path[-1] == pytest.approx(path[0])
    if motion == "bouncing":  # from the ground
        assert path[0, 1] == path[:, 1].max()
    else:  # from twelve o'clock
        assert path[0, 0] == 0.5
        assert path[0, 1] == pytest.approx(path[:, 1].min())
        assert (path[25, 0] > 0.5) == (motion == "moving clockwise")
