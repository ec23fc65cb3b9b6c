import numpy as np
import pytest

from gridctl.generate.windows import map_windows, window_starts


@pytest.mark.parametrize(
    ("count", "size", "starts"),
    [
        (24, 24, [0]),
        (25, 24, [0, 1]),
        (44, 24, [0, 20]),
        (45, 24, [0, 20, 21]),
        (96, 24, [0, 20, 40, 60, 72]),
        (7, 2, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_windows_cover_the_clip_and_share_frames(count: int, size: int, starts: list[int]) -> None:
    assert window_starts(count, size) == starts


def test_each_window_gets_what_the_one_before_has_drawn() -> None:
    frames = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    seen: list[tuple[list[int], list[int]]] = []

    def draw(window: np.ndarray, finished: np.ndarray) -> np.ndarray:
        seen.append((window.ravel().tolist(), finished.ravel().tolist()))
        return np.concatenate([finished, window[len(finished) :] + 100])

    result = map_windows(frames, 6, draw)
    assert result.ravel().tolist() == list(range(100, 110))
    assert seen == [
        ([0, 1, 2, 3, 4, 5], []),
        ([3, 4, 5, 6, 7, 8], [103, 104, 105]),
        ([4, 5, 6, 7, 8, 9], [104, 105, 106, 107, 108]),
    ]
