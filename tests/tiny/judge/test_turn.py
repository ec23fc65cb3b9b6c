import numpy as np
import numpy.typing as npt
import pytest

from gridctl.tiny.judge.turn import read_turn

VIEWS = 48


def left_of(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """What each view leaves of frames at these angles, (F, VIEWS): the more, the farther off."""
    gap = np.abs((np.arange(VIEWS) * 360 / VIEWS - angles[:, None] + 180) % 360 - 180)
    return (0.01 + 0.2 * (1 - np.cos(np.radians(gap)))).astype(np.float32)


@pytest.mark.parametrize("count", [4, 24, 48])
@pytest.mark.parametrize("start", [0.0, 101.0])
def test_a_steady_turn_is_in_order_wherever_it_starts(count: int, start: float) -> None:
    angles = (start + np.arange(count) * 360 / count) % 360
    turn = read_turn(left_of(angles))
    assert turn.in_order
    assert not turn.frozen
    off = (np.array(turn.angles) - angles + 180) % 360 - 180
    assert np.abs(off).max() < 2


def test_other_orders_are_not() -> None:
    angles = np.arange(24) * 15.0
    swapped = angles.copy()
    swapped[[5, 7]] = swapped[[7, 5]]
    for wrong in (angles[::-1], swapped, np.random.default_rng(0).permutation(angles), angles / 2):
        assert not read_turn(left_of(wrong)).in_order


def test_one_view_throughout_is_frozen() -> None:
    turn = read_turn(left_of(np.full(24, 90.0)))
    assert turn.frozen
    assert not turn.in_order
    assert turn.still == 90


def test_views_that_cannot_be_told_apart_are_in_order() -> None:
    left = left_of(np.arange(24) * 15.0)
    left[9:15] = 0.01  # from behind, all views fit
    turn = read_turn(left)
    assert turn.in_order
    assert np.array(turn.angles) == pytest.approx(np.arange(24) * 15.0, abs=5)
