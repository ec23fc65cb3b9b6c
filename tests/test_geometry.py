import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import InputError, UsageError
from gridctl.geometry import PIXELS_PER, Grid, Order, Sheet, Unit, parse_size

SIDES = st.integers(1, 4).map(lambda tokens: tokens * 16)
GRIDS = st.builds(
    Grid,
    rows=st.integers(1, 7),
    cols=st.integers(1, 7),
    cell=st.tuples(SIDES, SIDES),
    order=st.sampled_from(["row-major", "serpentine"]),
)
UNITS: tuple[Unit, ...] = ("pixel", "token")


@given(GRIDS)
def test_json_round_trip(grid: Grid) -> None:
    assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid


def test_the_json_form() -> None:
    grid = Grid(rows=2, cols=3, cell=(32, 16), order="serpentine")
    text = '{"rows": 2, "cols": 3, "cell": [32, 16], "order": "serpentine"}'
    assert json.dumps(grid.to_json()) == text
    assert Grid.from_json({**json.loads(text), "fps": 8.0}) == grid


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"rows": None}, "whole number"),
        ({"rows": 2.5}, "whole number"),
        ({"cols": "3"}, "whole number"),
        ({"cell": 32}, "whole number"),
        ({"cell": [32]}, "whole number"),
        ({"cell": [30, 16]}, "multiple of 16"),
        ({"rows": 0}, "start at 1"),
        ({"order": "spiral"}, "spiral"),
        ({"order": ["row-major"]}, "unknown"),
    ],
)
def test_damaged_json_is_refused(change: dict[str, object], fact: str) -> None:
    data = Grid(rows=2, cols=3, cell=(32, 16)).to_json()
    with pytest.raises(InputError, match=fact):
        Grid.from_json({**data, **change})
    with pytest.raises(InputError, match="cell is missing"):
        Grid.from_json({"rows": 2})
    with pytest.raises(InputError):
        Grid.from_json([2, 3])


@given(GRIDS, st.sampled_from(UNITS))
def test_every_pixel_belongs_to_exactly_one_frame(grid: Grid, unit: Unit) -> None:
    width, height = grid.size(unit)
    owners = np.zeros((height, width), dtype=int)
    for box in grid.boxes(unit):
        assert (box.right - box.left, box.bottom - box.top) == grid.cell_size(unit)
        owners[box.slices] += 1
    assert (owners == 1).all()


@given(GRIDS)
def test_frame_at_is_the_inverse_of_position(grid: Grid) -> None:
    cells = [grid.position(frame) for frame in range(grid.num_frames)]
    assert [grid.frame_at(row, col) for row, col in cells] == list(range(grid.num_frames))
    assert len(set(cells)) == grid.num_frames == grid.rows * grid.cols


@given(GRIDS)
def test_row_major_is_reading_order(grid: Grid) -> None:
    grid = dataclasses.replace(grid, order="row-major")
    cells = [grid.position(frame) for frame in range(grid.num_frames)]
    assert cells == sorted(cells)


@given(GRIDS)
def test_serpentine_neighbors(grid: Grid) -> None:
    grid = dataclasses.replace(grid, order="serpentine")
    cells = [grid.position(frame) for frame in range(grid.num_frames)]
    assert cells[0] == (0, 0)
    for (row, col), (next_row, next_col) in pairwise(cells):
        assert abs(next_row - row) + abs(next_col - col) == 1


@given(GRIDS, st.data())
def test_token_boxes_are_scaled_pixel_boxes(grid: Grid, data: st.DataObject) -> None:
    frame = data.draw(st.integers(0, grid.num_frames - 1))
    pixels = grid.box(frame)
    for unit in UNITS:
        scale = PIXELS_PER[unit]
        assert tuple(side * scale for side in grid.box(frame, unit)) == pixels
        assert tuple(side * scale for side in grid.size(unit)) == grid.image_size
        assert tuple(side * scale for side in grid.cell_size(unit)) == grid.cell


@given(GRIDS)
def test_row_wraps(grid: Grid) -> None:
    wraps = [frame for frame in range(grid.num_frames - 1) if grid.is_row_wrap(frame)]
    assert wraps == [row * grid.cols - 1 for row in range(1, grid.rows)]


def test_the_papers_grid() -> None:
    grid = Grid(rows=4, cols=6, cell=(256, 256))
    assert (grid.num_frames, grid.image_size, grid.num_tokens) == (24, (1536, 1024), 6144)
    assert grid.size("token") == (96, 64)
    assert grid.box(7) == (256, 256, 512, 512)
    assert grid.box(7, "token").slices == (slice(16, 32), slice(16, 32))
    assert str(grid) == "4x6 cells of 256x256, row-major"


@pytest.mark.parametrize("order", ["row-major", "serpentine"])
def test_a_sheet_has_cells_of_any_size(order: Order) -> None:
    sheet = Sheet(rows=2, cols=3, cell=(160, 90), order=order)
    grid = Grid(rows=2, cols=3, cell=(16, 16), order=order)
    assert (sheet.num_frames, sheet.image_size) == (6, (480, 180))
    for frame in range(6):
        left, top, right, bottom = sheet.box(frame)
        assert (left // 160, top // 90) == grid.position(frame)[::-1]
        assert (right - left, bottom - top) == sheet.cell
    with pytest.raises(UsageError, match="0x90 is empty"):
        Sheet(rows=1, cols=1, cell=(0, 90))


def test_serpentine_reverses_every_other_row() -> None:
    grid = Grid(rows=3, cols=3, cell=(32, 16), order="serpentine")
    layout = [[grid.frame_at(row, col) for col in range(3)] for row in range(3)]
    assert layout == [[0, 1, 2], [5, 4, 3], [6, 7, 8]]
    assert grid.box(3) == (64, 16, 96, 32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 0}, "a grid of 0x6 cells has no frames; rows and cols start at 1."),
        ({"cols": -1}, "a grid of 4x-1 cells has no frames; rows and cols start at 1."),
        (
            {"cell": (250, 256)},
            "cell 250x256 is not a multiple of 16 pixels on both sides, so a FLUX token would "
            "hold two frames; use 256x256.",
        ),
        (
            {"cell": (64, 3)},
            "cell 64x3 is not a multiple of 16 pixels on both sides, so a FLUX token would "
            "hold two frames; use 64x16.",
        ),
        ({"order": "zigzag"}, "order 'zigzag' is unknown; choose row-major or serpentine."),
    ],
)
def test_an_impossible_grid_is_refused_with_a_remedy(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        Grid(**{"rows": 4, "cols": 6, "cell": (64, 64), **values})  # type: ignore[arg-type]
    assert str(error.value) == message


@given(st.tuples(st.integers(-40, 200), st.integers(-40, 200)))
def test_the_suggested_cell_is_valid(cell: tuple[int, int]) -> None:
    try:
        Grid(rows=1, cols=1, cell=cell)
    except UsageError as error:
        proposed = str(error).rpartition("use ")[2].rstrip(".")
        Grid(rows=1, cols=1, cell=parse_size(proposed))
    else:
        assert cell[0] % 16 == cell[1] % 16 == 0


@pytest.mark.parametrize("frame", [-1, 6])
def test_position_outside_the_grid(frame: int) -> None:
    grid = Grid(rows=2, cols=3, cell=(16, 16))
    with pytest.raises(IndexError):
        grid.position(frame)


@pytest.mark.parametrize("cell", [(-1, 0), (2, 0), (0, 3)])
def test_frame_at_outside_the_grid(cell: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        Grid(rows=2, cols=3, cell=(16, 16)).frame_at(*cell)


@pytest.mark.parametrize(
    ("text", "size"), [("256x192", (256, 192)), ("64", (64, 64)), ("48X16", (48, 16))]
)
def test_parse_size(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "axb", "64x", "x64", "64x64x64", "6.4x64", "64 by 64"])
def test_other_text_is_not_a_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not WIDTHxHEIGHT in pixels; write 256x256, or 256"):
        parse_size(text)
