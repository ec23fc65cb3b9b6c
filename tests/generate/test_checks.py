"""Self-checks: each finds the clip that has exactly its fault, and none finds a true clip."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gridctl.dataset.grid_image import compose, split
from gridctl.diffusion.plan import Plan
from gridctl.generate.checks import LIMITS, Check, Checks, DrawnGrid, check_clip
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Scene, sample_scene

GRID = Grid(rows=4, cols=6, cell=(64, 64))
SCENE = Scene(
    kind="shape", shape="star", color="green", background="gray", motion="moving right",
    size=0.2, x=0.22, y=0.6, speed=0.5,
)  # fmt: skip


def true_clip() -> Frames:
    return render_clip(SCENE, 24, (64, 64))


def with_black_frame(frames: Frames) -> Frames:
    frames[7] = 0
    return frames


def with_repeated_frame(frames: Frames) -> Frames:
    frames[8] = frames[7]
    return frames


def with_flickering_object(frames: Frames) -> Frames:
    """Every second frame is a tenth paler, but its mean is the same."""
    pale = frames[::2].astype(float)
    means = pale.mean((1, 2), keepdims=True)
    frames[::2] = (means + 0.85 * (pale - means)).round()
    return frames


def with_flickering_light(frames: Frames) -> Frames:
    frames[::2] = np.minimum(frames[::2].astype(int) + 8, 255)
    return frames


def with_object_across_cells(frames: Frames) -> Frames:
    """One of the grid's objects lies 40 pixels too far right, half in the next cell."""
    picture = compose(frames, GRID)
    star = picture[64:128, 0:64].copy()
    picture[64:128, 40:104] = star
    picture[64:128, 0:40] = picture[0, 0]
    return split(picture, GRID)


def with_jumping_rows(frames: Frames) -> Frames:
    """Each row's objects lie 12 pixels lower or higher than the last one's."""
    for row in (1, 3):
        frames[6 * row : 6 * row + 6] = np.roll(frames[6 * row : 6 * row + 6], 12, axis=1)
    return frames


def with_foreign_first_frame(frames: Frames) -> Frames:
    frames[0] = np.roll(frames[0], 25, axis=1)
    return frames


@pytest.mark.parametrize(
    ("spoil", "name", "where"),
    [
        (with_black_frame, "flat", 7),
        (with_repeated_frame, "repeat", 7),
        (with_flickering_object, "flicker", None),
        (with_flickering_light, "brightness", None),
        (with_object_across_cells, "seam", 6),
        (with_jumping_rows, "row", None),
        (with_foreign_first_frame, "given", 0),
    ],
)
def test_each_fault_is_found_and_named(
    spoil: Callable[[Frames], Frames], name: str, where: int | None
) -> None:
    frames = spoil(true_clip())
    found = check_clip(frames, [DrawnGrid(plan=Plan.keep(GRID, {0}), frames=frames)])
    checks = {check.name: check for check in found.failed}
    assert name in checks
    assert where is None or checks[name].frame == where
    assert str(checks[name]).endswith(".")
    assert "; " in str(checks[name])


def test_a_restored_clip_with_other_content_is_found() -> None:
    frames, given = true_clip(), render_clip(replace(SCENE, background="white"), 24, (64, 64))
    plan = Plan.init(GRID, 0.3)
    gains = 1 + 0.15 * np.random.default_rng(0).uniform(-1, 1, (24, 1, 1, 1))
    flickers = (given * gains).clip(0, 255).astype(np.uint8)
    for drawn, reference, fails in (
        (frames, frames, False),
        (given, flickers, False),  # flicker that is gone is no content
        (frames, given, True),
    ):
        found = check_clip(drawn, [DrawnGrid(plan=plan, frames=drawn, reference=reference)])
        assert ("content" in {check.name for check in found.failed}) is fails


@pytest.mark.parametrize("seed", range(12))
def test_true_clips_have_no_fault(seed: int) -> None:
    """Whatever the scene, also at another size and with the last frame given."""
    scene = sample_scene(np.random.default_rng((4, seed)))
    side = (64, 128)[seed % 2]
    frames = render_clip(scene, 24, (side, side))
    grid = replace(GRID, cell=(side, side))
    found = check_clip(frames, [DrawnGrid(plan=Plan.keep(grid, {0, 23}), frames=frames)])
    assert [check.name for check in found.failed] == []
    assert {check.name for check in found.checks} == set(LIMITS) - {"content"}


def test_a_moving_camera_is_no_fault() -> None:
    """A picture with detail everywhere, panned: all pixels change, at all borders."""
    rng = np.random.default_rng(1)
    waves = np.add.outer(np.arange(256), np.arange(256))[..., None] * [0.1, 0.13, 0.17]
    noise = np.repeat(np.repeat(rng.normal(0, 40, (32, 32, 3)), 8, 0), 8, 1)
    picture = (128 + 60 * np.sin(waves) + noise).clip(0, 255).astype(np.uint8)
    frames = np.stack([picture[2 * k : 2 * k + 64, 3 * k : 3 * k + 64] for k in range(24)])
    found = check_clip(frames, [DrawnGrid(plan=Plan.generate(GRID), frames=frames)])
    assert [check.name for check in found.failed] == []


# ---- each figure by hand, on frames of 64x64, which are not shrunk ----


def halves(*levels: tuple[float, float]) -> Frames:
    """Frames whose upper half has the first level of each pair, and the lower half the second."""
    frames = np.zeros((len(levels), 64, 64, 3), np.uint8)
    for frame, (upper, lower) in zip(frames, levels, strict=True):
        frame[:32], frame[32:] = upper, lower
    return frames


def figure(name: str, frames: Frames, *grids: DrawnGrid) -> Check:
    (found,) = [check for check in check_clip(frames, grids).checks if check.name == name]
    return found


def plain(*levels: int, gray: int = 0) -> Frames:
    """Frames of one level each."""
    return halves(*((level + gray, level + gray) for level in levels))


def drawn(frames: Frames, kept: set[int] | None = None, rows: int = 2) -> DrawnGrid:
    grid = Grid(rows=rows, cols=len(frames) // rows, cell=(64, 64))
    return DrawnGrid(plan=Plan.keep(grid, kept or set()), frames=frames)


def test_flat_is_contrast_that_a_frame_lacks() -> None:
    """Half of each frame is d brighter, so its contrast is d / 2: 20, 20, 5 and 30."""
    frames = halves((40, 0), (40, 0), (10, 0), (60, 0))
    found = figure("flat", frames)
    assert (found.value, found.frame) == (pytest.approx(1 - 5 / 20), 2)
    assert figure("flat", halves((4, 0), (4, 0), (4, 0))).value == 1.0  # nothing is to be seen
    assert figure("flat", halves((6, 0), (6, 0), (6, 0))).value == 0.0


def test_flicker_is_contrast_that_trembles() -> None:
    """Contrasts 20, 22, 20, 22: second differences of 4, over the square root of 6."""
    frames = halves((40, 0), (44, 0), (40, 0), (44, 0))
    assert figure("flicker", frames).value == pytest.approx(4 / 6**0.5 / 21)
    steady = halves((40, 0), (44, 0), (48, 0), (52, 0))
    assert figure("flicker", steady).value == pytest.approx(0, abs=1e-6)


def test_brightness_is_the_mean_that_trembles() -> None:
    """In the channel where it does most: means of 100, 104, 100, 104."""
    frames = plain(100, 104, 100, 104)
    frames[..., 1:] = 50
    assert figure("brightness", frames).value == pytest.approx(8 / 6**0.5)


def test_repeat_is_motion_that_two_frames_lack() -> None:
    """Steps of 8, 2 and 8: a quarter of those around it."""
    found = figure("repeat", plain(0, 8, 10, 18))
    assert (found.value, found.frame) == (pytest.approx(1 - 2 / 8), 1)
    assert figure("repeat", plain(0, 8, 8, 0)).value == 0  # it turns round
    slow = plain(0, 0, 0, 0)
    slow[2:, :4] = 1  # 1/16 of a level is not motion
    assert figure("repeat", slow).value == 0
    assert {check.name for check in check_clip(plain(0, 8, 8)).checks} == {"flat"}  # too short


def test_row_is_the_step_where_rows_end() -> None:
    """Two rows of three: the step after frame 2 is 12, the others are 4."""
    frames = plain(0, 4, 8, 20, 24, 28)
    found = figure("row", frames, drawn(frames))
    assert (found.value, found.frame) == (pytest.approx(12 / 4), 2)
    three = figure("row", plain(0, 4, 14, 18, 24, 28), drawn(plain(0, 4, 14, 18, 24, 28), rows=3))
    assert (three.value, three.frame) == (pytest.approx(8 / 4), 1)  # the mean of 10 and 6
    still = plain(0, 0, 0, 9, 9, 9)
    assert figure("row", still, drawn(still)).value == pytest.approx(9 / 0.5)


def test_given_is_the_step_beside_a_given_frame() -> None:
    """Frames 0 and 3 are given: steps of 20, 8 and 12 beside them, and 4 and 6 between others."""
    frames = plain(0, 20, 24, 32, 44, 50)
    found = figure("given", frames, drawn(frames, {0, 3}))
    assert (found.value, found.frame) == (pytest.approx((20 + 8 + 12) / 3 / 5), 0)
    names = {check.name for check in check_clip(frames, [drawn(frames)]).checks}
    assert "given" not in names


def test_content_is_what_a_restored_clip_shows_else() -> None:
    """Blocks of 8x8 pixels are compared, and the frame may get up to 1.5 times as bright."""
    grid = Grid(rows=1, cols=2, cell=(64, 64))
    given = plain(100, 100)
    brighter = DrawnGrid(plan=Plan.init(grid, 0.3), frames=plain(140, 100), reference=given)
    assert figure("content", brighter.frames, brighter).value == pytest.approx(0, abs=1e-4)
    far = DrawnGrid(plan=Plan.init(grid, 0.3), frames=plain(100, 170), reference=given)
    found = figure("content", far.frames, far)
    assert (found.value, found.frame) == (pytest.approx(170 - 150), 1)
    for other in (  # frames that are drawn from noise are not restored ones
        Plan(grid=grid, release=(0.3, 1.0)),
        Plan(grid=grid, release=(0.0, 0.0)),
    ):
        elsewhere = DrawnGrid(plan=other, frames=far.frames, reference=given)
        names = {check.name for check in check_clip(far.frames, [elsewhere]).checks}
        assert "content" not in names


def marked(at: dict[int, str], cols: int) -> Frames:
    """Gray cells in a row, some with a white bar at their left or right border, at row 8 to 15."""
    frames = np.full((cols, 64, 64, 3), 100, np.uint8)
    for frame, side in at.items():
        frames[frame, 8:16, slice(0, 6) if side == "left" else slice(-6, None)] = 255
    return frames


def test_seam_is_what_lies_on_both_sides_of_a_border() -> None:
    """An eighth of the border between the cells of frames 1 and 2."""
    frames = marked({1: "right", 2: "left"}, 4)
    found = figure("seam", frames, drawn(frames, rows=1))
    assert (found.value, found.frame, found.other) == (pytest.approx(8 / 64), 1, 2)
    apart = marked({1: "right", 3: "left"}, 4)  # these cells do not touch: it is by chance
    assert figure("seam", apart, drawn(apart, rows=1)).value == 0
    turned = np.ascontiguousarray(frames.transpose(0, 2, 1, 3))
    below = figure("seam", turned, drawn(turned, rows=4))
    assert (below.value, below.frame, below.other) == (pytest.approx(8 / 64), 1, 2)


def test_large_frames_are_compared_as_small_ones() -> None:
    """The means of 2x2 pixels: a checkerboard of single pixels has no contrast."""
    board = np.indices((128, 128)).sum(0) % 2 * 200
    frames = np.repeat(np.repeat(board[None, :, :, None], 3, 3), 4, 0).astype(np.uint8)
    assert figure("flat", frames).value == 1.0


def test_figures_of_several_grids_are_the_worst() -> None:
    calm, jump = plain(0, 4, 8, 12, 16, 20), plain(0, 4, 8, 20, 24, 28)
    found = figure("row", calm, drawn(calm), drawn(jump), drawn(calm))
    assert (found.value, found.frame) == (pytest.approx(3.0), 2)


def test_a_check_fails_above_its_limit() -> None:
    at, over = Check(name="row", value=3.0), Check(name="row", value=3.3, frame=5)
    assert (at.fails, over.fails) == (False, True)
    assert over.load == pytest.approx(1.1)
    assert over.to_json() == {"value": 3.3, "limit": 3.0, "frames": [5], "fails": True}
    seam = Check(name="seam", value=0.12345, frame=1, other=2).to_json()
    assert (seam["value"], seam["frames"]) == (0.1235, [1, 2])
    assert str(over) == (
        "frame 6 begins a row of the grid with a jump, 3.3 times the usual step; draw another "
        "seed, or use --best-of 4."
    )


def test_clips_with_fewer_faults_come_first() -> None:
    def badness(flat: float, row: float) -> tuple[int, float]:
        checks = Check(name="flat", value=flat), Check(name="row", value=row)
        return Checks(checks=checks).badness

    assert badness(0.4, 1.5) == (0, pytest.approx(1.0))
    assert badness(0.9, 0.0) == (1, pytest.approx(0.9 / 0.8))
    assert badness(0.7, 2.9) < badness(0.9, 0.0) < badness(0.9, 0.3) < badness(0.81, 3.1)
