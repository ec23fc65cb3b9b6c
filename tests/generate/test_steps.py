import pytest

from gridctl.generate.steps import window_starts


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
