import numpy as np
import numpy.typing as npt
import pytest

from gridctl.tiny.judge.turn import read_turn

VIEWS = 48


def left_of(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Costs (F, VIEWS) of frames at these angles: they grow with the distance."""
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


@pytest.mark.parametrize(
    ("wrong", "by", "in_order"),
    [
        (0, 0, True),
        (1, 120, True),  # 23 of 24 are 96 %, of which 95 % are enough
        (2, 120, False),  # 22 of 24 are 92 %
        (6, 8, True),  # every fourth by one view of 7.5 degrees: 10 are near
        (6, 23, False),  # by three views: the turn that fits best moves by one of them at most
    ],
)
def test_few_views_may_be_wrong(wrong: int, by: float, in_order: bool) -> None:
    angles = np.arange(24) * 15.0
    angles[1 : 1 + 4 * wrong : 4] += by
    turn = read_turn(10 * left_of(angles % 360))  # so that views 7.5 degrees off do not fit
    assert turn.in_order is in_order
    assert turn.agreement == pytest.approx(1 if by == 8 else 1 - wrong / 24)


def test_views_that_fit_a_little_worse_are_possible_too() -> None:
    angles = np.arange(24) * 15.0
    left = left_of(angles)
    left[7] = 0.02
    left[7, 30] = 0.0155  # the best view, but the turn's is within 0.005
    assert read_turn(left).agreement == 1
    left[7, 30] = 0.0145
    assert read_turn(left).agreement == pytest.approx(23 / 24)


def test_angles_lie_between_views() -> None:
    angles = np.arange(24) * 15.0 + 2.5  # views are 7.5 degrees apart
    found = np.array(read_turn(left_of(angles)).angles)
    assert found == pytest.approx(angles, abs=0.2)
