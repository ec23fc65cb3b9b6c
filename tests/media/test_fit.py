"""How a frame fills its cell: sizes and places by hand."""

import numpy as np
import pytest

from gridctl.errors import UsageError
from gridctl.media.fit import Fit, FitMode, parse_color


@pytest.mark.parametrize(
    ("mode", "size", "aspect", "visible", "inner"),
    [  # a cell of 64x32
        ("crop", (100, 100), 1.0, (100, 50), (64, 32)),
        ("crop", (400, 100), 1.0, (200, 100), (64, 32)),
        ("crop", (100, 100), 2.0, (100, 100), (64, 32)),  # pixels twice as wide as high
        ("crop", (1, 1000), 1.0, (1, 1), (64, 32)),
        ("pad", (100, 100), 1.0, (100, 100), (32, 32)),
        ("pad", (400, 100), 1.0, (400, 100), (64, 16)),
        ("pad", (100, 100), 2.0, (100, 100), (64, 32)),
        ("pad", (1, 1000), 1.0, (1, 1000), (1, 32)),
        ("stretch", (400, 100), 1.0, (400, 100), (64, 32)),
    ],
)
def test_the_part_that_is_seen_and_its_size(
    mode: FitMode,
    size: tuple[int, int],
    aspect: float,
    visible: tuple[int, int],
    inner: tuple[int, int],
) -> None:
    fit = Fit(cell=(64, 32), mode=mode)
    assert (fit.visible(size, aspect), fit.inner(size, aspect)) == (visible, inner)
    turned = fit.turned()
    assert turned.visible(size[::-1], 1 / aspect) == visible[::-1]
    assert turned.inner(size[::-1], 1 / aspect) == inner[::-1]


def test_the_share_that_is_cut_off_is_reported() -> None:
    shares: list[float] = []
    fit = Fit(cell=(64, 32), on_crop=shares.append)
    fit.visible((100, 100))
    fit.visible((200, 100))
    assert shares == [0.5, 0.0]


def test_bars_have_the_background() -> None:
    cell = Fit(cell=(4, 3), mode="pad", background=(1, 2, 3)).place(np.full((1, 2, 3), 9, np.uint8))
    expected = np.full((3, 4, 3), (1, 2, 3), np.uint8)
    expected[1, 1:3] = 9
    assert np.array_equal(cell, expected)


def test_names_and_values_of_colors() -> None:
    assert [parse_color(text) for text in ("white", "#ffcc00")] == [(255,) * 3, (255, 204, 0)]
    with pytest.raises(UsageError, match="color 'wite' is unknown; write white, or #ffcc00"):
        parse_color("wite")
    with pytest.raises(UsageError, match="fit 'fill' is unknown; choose crop, pad, stretch"):
        Fit(cell=(64, 32), mode="fill")  # type: ignore[arg-type]
