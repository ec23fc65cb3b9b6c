import numpy as np
import numpy.typing as npt
import pytest

from gridctl.tiny.judge.motion import fit_motions
from gridctl.tiny.render import frame_times, pose
from gridctl.tiny.scene import Scene, sample_scene
from gridctl.tiny.words import MOTIONS


def path_of(scene: Scene, count: int) -> npt.NDArray[np.float64]:
    return np.array([pose(scene, t) for t in frame_times(scene, count)])


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize(("count", "noise"), [(12, 0.0), (24, 0.0), (24, 0.015), (48, 0.015)])
def test_each_motion_fits_its_own_path_best(motion: str, count: int, noise: float) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        path = path_of(sample_scene(rng, kind="shape", motion=motion, held_out=None), count)
        fit = fit_motions(path + rng.normal(0, noise, path.shape))[0]
        assert fit.motion == motion
        assert fit.error < 0.002 + 2 * noise
        assert np.abs(fit.path - path).max() < 0.005 + 3 * noise  # the way without its noise


def test_small_motions_are_none() -> None:
    time = np.linspace(0, 1, 24)[:, None]
    for way in ((0.1, 0, 0), (0, -0.1, 0), (0, 0, 0.05)):
        fits = fit_motions(np.array([0.5, 0.5, 0.2]) + time * way)
        assert [fit.motion for fit in fits] == ["standing still"]


def test_a_slanted_way_is_no_direction() -> None:
    time = np.linspace(0, 1, 24)[:, None]
    slanted = np.array([0.2, 0.2, 0.2]) + time * [0.5, 0.5, 0]
    assert fit_motions(slanted)[0].error > 0.1


def test_two_frames_are_enough_for_a_straight_way() -> None:
    path = np.array([[0.2, 0.5, 0.2], [0.8, 0.5, 0.2]])
    assert fit_motions(path)[0].motion == "moving right"
    assert fit_motions(path[::-1])[0].motion == "moving left"


def straight(way: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """A path of 24 frames from the middle of the left side."""
    time = np.linspace(0, 1, 24)[:, None]
    return np.array([0.1, 0.4, 0.2]) + time * way


def orbit(radius: float, turns: float, x: float = 0.5) -> npt.NDArray[np.float64]:
    angle = 2 * np.pi * turns * np.linspace(0, 1, 24)
    return np.stack([x + radius * np.cos(angle), 0.5 + radius * np.sin(angle), 0 * angle + 0.2], -1)


def bounce(height: float) -> npt.NDArray[np.float64]:
    fall = 2 * np.linspace(0, 1, 24) % 1
    return np.stack([0 * fall + 0.5, 0.8 - height * 4 * fall * (1 - fall), 0 * fall + 0.2], -1)


@pytest.mark.parametrize(
    ("path", "motion"),
    [
        (straight((0.26, 0, 0)), "moving right"),  # at least 0.25 of the side
        (straight((0.24, 0, 0)), None),
        (straight((0, -0.27, 0)), "moving up"),
        (straight((0.3, 0.3 * np.tan(np.radians(24)), 0)), "moving right"),  # 25 degrees
        (straight((0.3, 0.3 * np.tan(np.radians(26)), 0)), None),
        (straight((0, 0, 0.2 * 0.5)), "growing"),  # 1.5 times; at least 1.45
        (straight((0, 0, 0.2 * 0.4)), None),
        (orbit(0.15, 1), "moving clockwise"),  # 0.14 to 0.45
        (orbit(0.13, 1), None),
        (orbit(0.47, 1), None),
        (orbit(0.25, -1, x=0.6), "moving counter-clockwise"),  # 0.15 off the middle at most
        (orbit(0.25, -1, x=0.68), None),
        (orbit(0.25, 0.5), "moving clockwise"),  # at least 0.45 turns
        (orbit(0.25, 0.4), None),
        (bounce(0.27), "bouncing"),  # at least 0.25
        (bounce(0.23), None),
    ],
)
def test_a_motion_must_be_wide_enough(path: npt.NDArray[np.float64], motion: str | None) -> None:
    fit = fit_motions(path)[0]
    assert (fit.motion if fit.error < 0.005 else None) == motion


def test_the_error_is_the_rms_distance() -> None:
    path = np.tile([0.5, 0.5, 0.2], (24, 1))
    path[:4] += [0.03, 0.04, 0]  # 4 of 24 frames are 0.05 off their median
    (fit,) = fit_motions(path)
    assert fit.motion == "standing still"
    assert fit.error == pytest.approx(0.05 * (4 / 24) ** 0.5)
