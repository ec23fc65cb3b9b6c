"""The timeline of frames, whatever their time stamps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.media.clip import limited, make_timeline, sample_indices

STEP = 0.04
STAMPS = st.integers(-(10**8), 10**8).map(lambda milliseconds: milliseconds / 1000)
REGULAR = [round(k * STEP, 6) for k in range(50)]


def times(stamps: list[float | None], **options: float) -> np.ndarray:
    return make_timeline(stamps, nominal_step=STEP, **options).times_seconds


def test_good_time_stamps_are_kept() -> None:
    variable = [5.0, 5.04, 5.08, 9.5, 9.54, 20.0]
    made = make_timeline(variable, nominal_step=STEP)
    assert made.times_seconds == pytest.approx(np.subtract(variable, 5))
    assert made.notes == ()
    assert times([7.0]).tolist() == [0]


@pytest.mark.parametrize(
    ("stamps", "note"),
    [
        (REGULAR[:25] + REGULAR[:25], "restart"),
        (REGULAR[:25] + [t + 0.3 for t in REGULAR[:25]], "restart"),
        (REGULAR[:10] + REGULAR[:20] + REGULAR[:20], "restart 2 times"),
        (REGULAR[:25] + [t + 300 for t in REGULAR[:25]], "jump ahead"),
        (REGULAR[:25] + [t + 95_443 for t in REGULAR[:25]], "jump ahead"),
        ([t + 95_443 for t in REGULAR[:25]] + REGULAR[:25], "restart"),
        ([k // 2 * 2 * STEP for k in range(50)], "repeat"),
        ([0.0] * 50, "repeat"),
        ([None] * 50, ""),
        ([0.0, *[None] * 49], ""),
    ],
)
def test_broken_time_stamps_become_a_regular_timeline(
    stamps: list[float | None], note: str
) -> None:
    made = make_timeline(stamps, nominal_step=STEP)
    assert made.times_seconds == pytest.approx(REGULAR, abs=1e-6)
    assert any(note in text for text in made.notes) == bool(note)


def test_stamps_out_of_order_are_sorted() -> None:
    swapped = list(REGULAR)
    for k in range(1, 48, 3):  # each pair of B-frames has the stamps of other frames
        swapped[k : k + 3] = [swapped[k + 2], swapped[k], swapped[k + 1]]
    made = make_timeline(swapped, nominal_step=STEP)
    assert made.times_seconds == pytest.approx(REGULAR)
    assert made.notes == ()


def test_slides_are_no_jumps() -> None:
    slides = [0.0, 90.0, 180.0, 270.0, 400.0]
    assert times(slides) == pytest.approx(slides)
    assert times([0.0, 0.04, 0.08, 59.0, 59.04]) == pytest.approx([0, 0.04, 0.08, 59, 59.04])
    assert times([0.0, 0.04, 0.08, 11.0, 11.04], longest_seconds=10.0)[-1] == pytest.approx(0.16)


@given(st.lists(st.none() | STAMPS, min_size=1, max_size=60))
def test_any_stamps_give_a_strictly_increasing_timeline(stamps: list[float | None]) -> None:
    made = make_timeline(stamps, nominal_step=STEP)
    assert len(made.times_seconds) == len(stamps)
    assert made.times_seconds[0] == 0
    assert (np.diff(made.times_seconds) > 0).all()
    assert (np.diff(made.times_seconds) <= made.longest_seconds + 1e-6).all()


def test_equal_stamps_before_a_still_picture_are_one_step_apart() -> None:
    assert times([0.0, 0.04, 0.08, 0.08, 2.0, 2.04]) == pytest.approx(
        [0, 0.04, 0.08, 0.12, 2.0, 2.04]
    )


def test_a_minute_is_not_too_long() -> None:
    assert limited(60.0) == (60.0, None)
    assert limited(61.0) == (60.0, "shows a frame for 61 seconds; 60 of them count")
    assert limited(11.0, 10.0)[0] == 10.0


@pytest.mark.parametrize(
    ("count", "wanted", "indices"),
    [
        (3, 5, (0, 1, 2)),
        (5, 1, (0,)),
        (5, 2, (0, 4)),
        (10, 4, (0, 3, 6, 9)),
        (4, 3, (0, 2, 3)),  # 1.5 is rounded up
        (6, 3, (0, 3, 5)),  # 2.5 as well
        (7, 5, (0, 2, 3, 5, 6)),  # 1.5 and 4.5
    ],
)
def test_sample_indices(count: int, wanted: int, indices: tuple[int, ...]) -> None:
    assert sample_indices(count, wanted) == indices
