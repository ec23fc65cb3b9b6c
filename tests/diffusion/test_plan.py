import pytest

from gridctl.diffusion.plan import Plan
from gridctl.errors import UsageError
from gridctl.geometry import Grid

GRID = Grid(rows=2, cols=2, cell=(32, 16), order="serpentine")


def test_text_to_video_generates_every_frame() -> None:
    plan = Plan.generate(GRID)
    assert plan.release == (1, 1, 1, 1)
    assert not plan.needs_reference
    assert Plan(grid=GRID, release=(1, 1, 0.99, 1)).needs_reference


def test_kept_frames_stay_and_the_others_are_drawn() -> None:
    plan = Plan.keep(GRID, (0, 3))
    assert plan.release == (0, 1, 1, 0)
    assert plan.kept == (0, 3)
    assert Plan(grid=GRID, release=(0.5, 1, 0, 1)).kept == (2,)  # an init frame changes
    assert Plan.init(GRID, 0.5).kept == ()


def test_a_plan_is_shown_as_the_grid_will_lie() -> None:
    plan = Plan(grid=GRID, release=(0, 1, 0.95, 0.5))
    assert str(plan).splitlines() == [
        "2x2 cells of 32x16, serpentine:",
        "  0 keep         1 generate",
        "  3 init 0.50    2 init 0.95",
    ]


def test_a_plan_fits_its_grid() -> None:
    with pytest.raises(UsageError, match="3 frames does not fit a grid of 4"):
        Plan(grid=GRID, release=(1, 1, 1))


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_lies_from_0_to_1(strength: float) -> None:
    with pytest.raises(UsageError, match="frame 1"):
        Plan(grid=GRID, release=(1, strength, 1, 1))
