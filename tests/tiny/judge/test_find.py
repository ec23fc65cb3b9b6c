"""Finding the object: values by hand, and naive twins."""

import numpy as np
import numpy.typing as npt
import pytest

from gridctl.tiny.judge import find
from gridctl.tiny.words import BACKGROUNDS, COLORS

BLACK = np.zeros(3, np.float32)


def plain(count: int, side: int, rgb: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return np.broadcast_to(np.float32(rgb), (count, side, side, 3)).copy()


def test_large_cells_are_shrunk_to_means_of_blocks() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 129, 160, 3), np.uint8)
    small = find.shrink(frames)
    assert small.shape == (2, 64, 80, 3)  # 129 / 64 is 2.02, so by 2
    assert small[1, 3, 5].tolist() == frames[1, 6:8, 10:12].mean((0, 1)).tolist()
    assert find.shrink(frames[:, :95, :95]).shape == (2, 95, 95, 3)  # 1.48: as it is


def test_the_background_is_the_median_of_two_rings() -> None:
    frames = plain(1, 32, BACKGROUNDS["gray"])
    frames[0, 2:-2, 2:-2] = 255  # not part of the border
    frames[0, 0, :] = frames[0, 1, :] = 7  # 64 of the 240 pixels of the rings
    rgb, spread, distances = find.read_background(frames)
    assert rgb.tolist() == [[128, 128, 128]]
    assert spread.tolist() == [0]
    names = list(BACKGROUNDS)
    assert distances[0, names.index("gray")] == 0
    assert distances[0, names.index("black")] == pytest.approx(128 * 3**0.5)
    frames[0, -2:, :] = 7
    frames[0, :, 0] = frames[0, :, 1] = 7  # now 184 are
    assert find.read_background(frames)[0].tolist() == [[7, 7, 7]]


def test_half_of_a_border_that_differs_is_uneven() -> None:
    frames = plain(1, 32, (0, 0, 0))
    frames[0, 1:-1, 1:-1] = 30  # the inner ring has 116 pixels, the outer one 124
    _, spread, _ = find.read_background(frames)
    assert spread.tolist() == [0]
    frames[0, 0, :16] = 30  # now 132 of them
    rgb, spread, _ = find.read_background(frames)
    assert rgb.tolist() == [[30, 30, 30]]
    assert spread.tolist() == [0]


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("shade", [1.0, 0.6])
def test_a_shade_of_a_color_is_explained(color: str, shade: float) -> None:
    frames = plain(2, 32, (0, 0, 0))
    frames[0, 8:12, 8:18] = np.float32(COLORS[color]) * np.float32(shade)
    frames[0, 12, 8:18] = np.float32(COLORS[color]) * np.float32(shade / 2)  # a soft edge
    costs, counts = find.read_color(frames, BLACK)
    assert counts.tolist() == [50, 0]
    assert costs[0].argmin() == list(COLORS).index(color)
    assert costs[0].min() < 1e-6
    assert costs[1].tolist() == [1] * len(COLORS)  # no object


def test_costs_of_a_color_are_shares_of_the_distance() -> None:
    frames = plain(1, 32, (0, 0, 0))
    frames[0, 10:14, 10:14] = (0, 0, 200)  # only blue is near
    costs, _ = find.read_color(frames, BLACK)
    red = np.float64(COLORS["red"])
    part = 200 * red[2] / (red @ red)
    left = ((part * red - [0, 0, 200]) ** 2).sum() / 200**2
    # The grays of a mark explain two thirds at best: (200 - 67)^2 + 2 x 67^2 of 200^2.
    gray = 2 / 3
    assert costs[0, list(COLORS).index("red")] == pytest.approx(min(left, gray), abs=0.01)
    # Blue is (30, 80, 235): what is left is 1 - cos^2 = 1 - 235^2 / (30^2 + 80^2 + 235^2).
    assert costs[0, list(COLORS).index("blue")] == pytest.approx(0.1168, abs=1e-3)


def test_distances_are_one_where_the_color_is() -> None:
    frames = plain(1, 12, (0, 0, 0))
    frames[0, 3:9, 3:9] = (200, 0, 0)
    distance = find.object_distance(frames, BLACK, np.float32((200, 0, 0)))
    assert distance[0, 5, 5] == pytest.approx(1)
    assert distance[0, 3, 5] == pytest.approx(2 / 3)  # the mean of 3x3, of which 6 are red
    assert distance[0, 3, 3] == pytest.approx(4 / 9)
    assert distance[0, 0, 0] == 0
    # A weak contrast of 40 would cut at 6 levels: 12 is the least, which is 0.15 of 80.
    weak = find.object_distance(frames / 5, BLACK, np.float32((40, 0, 0)))
    assert weak[0, 5, 5] == pytest.approx(0.5)


def test_layers_are_far_where_no_background_is_left() -> None:
    layers = np.zeros((1, 5, 5, 3), np.float32)
    layers[..., 0] = 1
    layers[0, 2, 2] = (0.1, 0.9, 0)
    distance = find.layer_distance(layers)
    assert distance[0, 1:4, 1:4].tolist() == [[pytest.approx(0.1)] * 3] * 3
    assert distance[0, 0].tolist() == [0] * 5


def test_soften_is_the_mean_of_three_by_three() -> None:
    picture = np.random.default_rng(1).uniform(0, 9, (2, 7, 6, 3)).astype(np.float32)
    soft = find.soften(picture)
    assert soft[1, 3, 2] == pytest.approx(picture[1, 2:5, 1:4].mean((0, 1)), abs=1e-5)
    assert soft[0, 0, 2] == pytest.approx(picture[0, 0, 1:4].mean(0), abs=1e-5)  # the first row
    assert soft[0, 4, 5] == pytest.approx(picture[0, 3:6, 5].mean(0), abs=1e-5)
    assert soft[0, 0, 0].tolist() == picture[0, 0, 0].tolist()


def test_a_box_ends_where_the_edge_is_crossed() -> None:
    distance = np.zeros((2, 40, 40), np.float32)
    distance[0, 10:20, 12:24] = 1
    distance[1, 10:20, 12:24] = 1
    distance[1, 10:20, 24] = 0.1  # below the edge at 0.15
    boxes, found = find.find_boxes(distance)
    assert found.tolist() == [True, True]
    # From a pixel's centre (1) to the next one's (0), 0.15 is reached after 0.85 of a pixel.
    left, right, top, bottom = 12.5 - 0.85, 23.5 + 0.85, 10.5 - 0.85, 19.5 + 0.85
    assert boxes[0].tolist() == pytest.approx(
        [(left + right) / 2, (top + bottom) / 2, (right - left) / 2]
    )
    right = 23.5 + 0.85 / 0.9  # from 1 to 0.1
    assert boxes[1].tolist() == pytest.approx([(left + right) / 2, 15, (right - left) / 2])


def test_a_speck_apart_is_left_out_but_not_a_part() -> None:
    distance = np.zeros((3, 40, 40), np.float32)
    distance[:, 10:20, 10:20] = 1  # 100 pixels, 10 in each column
    distance[1, 14:16, 30:32] = 1  # 4: a speck
    distance[2, 10:20, 24:28] = 1  # 40, apart by four columns
    boxes, _ = find.find_boxes(distance)
    assert boxes[1].tolist() == boxes[0].tolist()
    assert boxes[2, 0] == pytest.approx(19)  # 10 to 28


def test_too_few_pixels_are_no_object() -> None:
    distance = np.zeros((2, 20, 20), np.float32)
    distance[0, 5, 5:8] = 1
    distance[1, 5:7, 5:7] = 1
    assert find.find_boxes(distance)[1].tolist() == [False, True]


def test_samples_are_bilinear() -> None:
    frames = np.random.default_rng(2).uniform(0, 255, (2, 20, 30, 3)).astype(np.float32)
    poses = np.float32([[14.3, 9.6, 4.5], [2.0, 19.0, 6.0]])
    looks = find.sample(frames, poses).reshape(2, find.LOOK, find.LOOK, 3)

    def twin(frame: int, row: int, column: int) -> npt.NDArray[np.float64]:
        x, y, half = poses[frame].astype(float)
        reach = [((k + 0.5) / find.LOOK * 2 - 1) * find.REACH * half for k in (row, column)]
        down = min(max(y + reach[0] - 0.5, 0), 19)
        right = min(max(x + reach[1] - 0.5, 0), 29)
        top, left = int(down), int(right)
        found = np.zeros(3)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            rows, columns = abs(1 - i - down + top), abs(1 - j - right + left)
            found += rows * columns * frames[frame, min(top + i, 19), min(left + j, 29)]
        return found

    for frame, row, column in ((0, 0, 0), (0, 11, 7), (0, 23, 20), (1, 0, 0), (1, 23, 1)):
        expected = twin(frame, row, column)
        assert looks[frame, row, column] == pytest.approx(expected, abs=1e-2)
