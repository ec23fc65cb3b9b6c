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
