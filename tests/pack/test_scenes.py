from pathlib import Path

import numpy as np

from gridctl.media.open import open_clip
from gridctl.pack.scenes import cut_positions, find_cuts
from tests.media.clips import make_clip, textured


def pan(count: int, seed: int = 0, speed: int = 1) -> np.ndarray:
    picture = textured(1, seed=seed)[0]
    return np.stack([np.roll(picture, speed * k, axis=1) for k in range(count)])


def test_cuts_are_found_and_motion_is_not_taken_for_one(tmp_path: Path) -> None:
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
