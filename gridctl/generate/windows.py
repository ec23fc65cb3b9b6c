"""Windows: a clip longer than a grid, as grids that share frames."""

from __future__ import annotations

from collections.abc import Callable

from gridctl.media.images import Frames

OVERLAP = 4  # frames that a window shares with the one before
DrawWindow = Callable[[Frames, Frames], Frames]


def window_starts(count: int, size: int, overlap: int = OVERLAP) -> list[int]:
    """First frames of windows of `size` over `count` frames, which share `overlap` or more.

    The last window ends with the clip. A small grid shares at most half of its frames.
    """
    step = size - min(overlap, size // 2)
    starts = list(range(0, max(1, count - size + 1), step))
    return starts if starts[-1] + size >= count else [*starts, count - size]


def map_windows(frames: Frames, size: int, draw: DrawWindow) -> Frames:
    """A clip (F, H, W, 3), drawn again window by window.

    `draw` gets a window's frames, and the first of its new frames if the window before has
    drawn them already.
    """
    result: Frames = frames.copy()
    end = 0
    for start in window_starts(len(frames), size):
        window, finished = frames[start : start + size], result[start : max(start, end)]
        result[start : start + size] = draw(window, finished)
        end = start + size
    return result
