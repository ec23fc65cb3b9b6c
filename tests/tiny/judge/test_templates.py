"""Templates: values by hand, naive twins, and offsets that are known."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from gridctl.tiny.judge import find, templates
from gridctl.tiny.judge.find import LOOK_AXIS
from gridctl.tiny.render import render_frame
from gridctl.tiny.scene import Scene
from gridctl.tiny.words import BACKGROUNDS, COLORS, SHAPES, SOLIDS

CIRCLE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="standing still", size=0.3
)
PAINTS = np.float32([BACKGROUNDS["black"], COLORS["red"], (245, 245, 245)])


def test_there_is_a_template_for_each_look() -> None:
    # 6 shapes: flat, outline, striped and 6 phases of a sketch; 4 solids of 48 views.
    assert len(templates.SCENES) == 6 * 9 + 4 * 48
    sizes = {name: len(templates.indices(name)) for name in (*SHAPES, *SOLIDS)}
    assert sizes == dict.fromkeys(SHAPES, 9) | dict.fromkeys(SOLIDS, 48)
    assert len(templates.indices("star", "sketch")) == 6
    times = [templates.SCENES[k][1] for k in templates.indices("torus")]
    assert times == [view / 48 for view in range(48)]


def test_the_nearest_radius_is_nearest_by_ratio() -> None:
    radii = np.float32([3, 5.9, 5.93, 8.3, 8.4, 99])  # sqrt(35) is 5.916, sqrt(70) 8.367
    assert templates.nearest_radius(radii).tolist() == [5, 5, 7, 7, 10, 28]


def test_what_is_unexplained_is_a_share_of_squares() -> None:
    rng = np.random.default_rng(0)
    looks = rng.uniform(0, 255, (2, 10, 3)).astype(np.float32)
    layers = rng.uniform(0, 1, (4, 10, 3)).astype(np.float32)
    found = templates.unexplained_by(looks, layers, PAINTS)
    for frame in range(2):
        for template in range(4):
            drawn = layers[template] @ PAINTS
            whole = ((looks[frame] - PAINTS[0]) ** 2).sum()
            expected = ((looks[frame] - drawn) ** 2).sum() / whole
            assert found[frame, template] == pytest.approx(expected, rel=1e-3)


def test_views_are_mixed_between_their_neighbours() -> None:
    views = np.arange(48, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    angles = np.float32([0, 7.5, 9.375, 358.125])  # a view is 7.5 degrees
    mixed = templates.between_views(views, angles)[:, 0, 0]
    assert mixed.tolist() == pytest.approx([0, 1, 1.25, 47 * 0.25])


def blob(x: float, y: float, width: float) -> npt.NDArray[np.float32]:
    """A soft spot, (LOOK * LOOK, 3), in units of the pose's half side."""
    squared = (LOOK_AXIS[None, :] - x) ** 2 + (LOOK_AXIS[:, None] - y) ** 2
    spot = 200 * np.exp(-squared / (2 * width**2))
    return np.repeat(spot.reshape(-1, 1), 3, 1).astype(np.float32)


@pytest.mark.parametrize("by", [(0.05, 0.0, 0.0), (0.0, -0.04, 0.0), (0.03, 0.02, 0.06)])
def test_offsets_of_a_moved_blob_are_found(by: tuple[float, float, float]) -> None:
    x, y, growth = by
    looks = blob(x, y, 0.4 * (1 + growth))[None]
    found = templates.offsets(looks, blob(0, 0, 0.4)[None])[0]
    assert found == pytest.approx(by, abs=0.015)


def test_large_offsets_are_cut_to_a_fifth() -> None:
    looks = blob(0.6, 0, 0.4)[None]
    assert templates.offsets(looks, blob(0, 0, 0.4)[None])[0, 0] == pytest.approx(0.2)


def test_poses_are_moved_in_units_of_their_half() -> None:
    moved = templates.moved(np.float32([[30, 20, 10]]), np.float32([[0.1, -0.2, 0.05]]))
    assert moved.tolist() == [pytest.approx([31, 18, 10.5])]


def test_the_box_of_a_circle_says_where_its_circle_is() -> None:
    bank = templates.bank(20.0)
    flat = templates.indices("circle", "flat")[0]
    x, y, ratio = bank.circles[flat]
    assert (x, y) == pytest.approx((0, 0), abs=0.01)
    # A flat circle has 0.92 of the radius; its soft edge adds about a pixel to the box.
    assert ratio == pytest.approx(20 / (0.92 * 20 + 1), abs=0.03)


@pytest.mark.parametrize("shape", ["circle", "star", "heart"])
def test_circles_are_refined_in_two_steps(shape: str) -> None:
    scene = replace(CIRCLE, shape=shape, x=0.47, y=0.55)
    frames = render_frame(scene, 0, (64, 64))[None].astype(np.float32)
    chosen = templates.indices(shape, "flat")[:1]
    boxes, _ = find.find_boxes(find.object_distance(frames, PAINTS[0], PAINTS[1]))
    boxes += np.float32([2.2, -2.4, 2.0])
    circle = templates.refined_circles(frames, boxes, chosen, PAINTS)[0]
    # One step from so far off leaves more than half a pixel.
    assert circle == pytest.approx([0.47 * 64, 0.55 * 64, 0.3 * 64], abs=0.4)
