"""Planning clips as lists of grids: by hand, and by a twin that fills a clip frame by frame."""

from collections.abc import Collection
from itertools import combinations

import pytest

from gridctl.errors import UsageError
from gridctl.generate import steps
from gridctl.generate.steps import GridStep
from gridctl.geometry import Grid

SHAPES = [(1, 2), (1, 3), (2, 2), (1, 5), (2, 3), (2, 4), (3, 3), (4, 6)]
GRID = Grid(rows=2, cols=3, cell=(32, 32))


def grid(rows: int, cols: int) -> Grid:
    return Grid(rows=rows, cols=cols, cell=(16, 16))


def rounded(step: GridStep) -> list[float]:
    return [round(strength, 3) for strength in step.plan.release]


def carry_out(planned: steps.Steps, known: Collection[int], count: int) -> dict[int, int]:
    """How often each frame of a clip of `count` is drawn from noise.

    Fails where a grid needs a frame that is not there yet, or draws one that is.
    """
    there, drawn = set(known), dict.fromkeys(range(count), 0)
    for step in planned:
        assert len(set(step.frames)) == step.plan.grid.num_frames
        new = []
        for frame, strength in zip(step.frames, step.plan.release, strict=True):
            assert (strength < 1) == (frame in there), f"frame {frame} of {step.frames}"
            new += [frame] if strength == 1 else []
        assert new, "a grid draws nothing new"
        there.update(new)
        for frame in new:
            drawn[frame] = drawn.get(frame, 0) + 1
    assert set(range(count)) <= there
    return drawn


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", steps.LONG)
def test_long_clips_draw_each_frame_once(shape: tuple[int, int], way: str) -> None:
    """Whatever the number of frames and the given ones."""
    own = grid(*shape)
    size = own.num_frames
    for count in range(size, 5 * size + 2):
        for given in [(), (0,), (count - 1,), (0, count - 1), (count // 2,), (1, count - 2)]:
            if len(set(given)) > size or min(given, default=0) < 0:
                continue
            planned = steps.long_clip(way, count, own, given)
            drawn = carry_out(planned, given, count)
            inside = {frame: times for frame, times in drawn.items() if frame < count}
            assert inside == {frame: int(frame not in given) for frame in range(count)}
            for step in planned:
                for frame, strength in zip(step.frames, step.plan.release, strict=True):
                    assert (frame not in given) or strength == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_extending_draws_each_new_frame_once(shape: tuple[int, int]) -> None:
    own = grid(*shape)
    for finished in range(1, 2 * own.num_frames):
        for count in range(finished + 1, finished + 3 * own.num_frames):
            planned = steps.windows(count, own, finished=finished)
            drawn = carry_out(planned, range(finished), count)
            assert all(drawn[frame] == (frame >= finished) for frame in range(count))
            assert all(set(step.plan.release) <= {0, 1} for step in planned)


@pytest.mark.parametrize("task", ["restore", "edit"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_changed_clip_changes_each_frame_once(shape: tuple[int, int], task: str) -> None:
    """Each is changed in one grid, and kept in the others that hold it."""
    own = grid(*shape)
    for count in range(own.num_frames, 5 * own.num_frames + 2):
        planned = (
            steps.restoration(count, own, 0.3)
            if task == "restore"
            else steps.edit(count, own, 0.3, "a circle")
        )
        changed = [
            [f for f, s in zip(step.frames, step.plan.release, strict=True) if s == 0.3]
            for step in planned
        ]
        assert sorted(frame for some in changed for frame in some) == list(range(count))
        before: set[int] = set()
        for step, some in zip(planned, changed, strict=True):
            assert some
            kept = set(step.frames) - set(some)
            assert kept <= before
            before |= set(some)
            assert step.source_prompt == (None if task == "restore" else "a circle")


@pytest.mark.parametrize(
    ("count", "size", "overlap", "starts"),
    [
        (24, 24, 4, [0]),
        (25, 24, 4, [0, 1]),
        (44, 24, 4, [0, 20]),
        (45, 24, 4, [0, 20, 21]),
        (96, 24, 4, [0, 20, 40, 60, 72]),
        (7, 2, 4, [0, 1, 2, 3, 4, 5]),  # a small grid shares half of its frames
        (11, 6, 1, [0, 5]),
        (3, 1, 4, [0, 1, 2]),
    ],
)
def test_windows_cover_the_clip(count: int, size: int, overlap: int, starts: list[int]) -> None:
    assert steps.window_starts(count, size, overlap) == starts


def test_a_grid_keeps_what_is_given() -> None:
    (step,) = steps.one_grid(GRID, {0, 4})
    assert (step.frames, step.plan.release) == ((0, 1, 2, 3, 4, 5), (0, 1, 1, 1, 0, 1))
    assert steps.one_grid(GRID, range(6)) == ()  # nothing is left to draw
    for way in steps.LONG:
        assert steps.long_clip(way, 6, GRID, {0, 4}) == (step,)


def test_key_frames_then_the_frames_between() -> None:
    """The last frames of the grid before change the more, the closer they are to new ones."""
    planned = steps.long_clip("keyframes", 16, GRID)
    assert [(list(step.frames), rounded(step)) for step in planned] == [
        ([0, 3, 6, 9, 12, 15], [1, 1, 1, 1, 1, 1]),
        ([0, 1, 2, 3, 4, 5], [0.85, 1, 1, 0.85, 1, 1]),
        ([3, 4, 5, 6, 7, 8], [0.283, 0.567, 0.85, 0.85, 1, 1]),
        ([6, 7, 8, 9, 10, 11], [0.283, 0.567, 0.85, 0.85, 1, 1]),
        ([9, 10, 11, 12, 13, 14], [0.283, 0.567, 0.85, 0.85, 1, 1]),
    ]


def test_given_frames_among_key_frames_are_kept() -> None:
    """Frame 7 is given, so it replaces key frame 6."""
    planned = steps.long_clip("keyframes", 16, GRID, {0, 7})
    assert [(list(step.frames), rounded(step)) for step in planned[:3]] == [
        ([0, 3, 7, 9, 12, 15], [0, 1, 0, 1, 1, 1]),
        ([0, 1, 2, 3, 4, 5], [0, 1, 1, 0.85, 1, 1]),
        ([3, 4, 5, 6, 7, 8], [0.283, 0.567, 0.85, 1, 0, 1]),
    ]


def test_a_large_grid_shares_four_frames_with_the_next() -> None:
    """At 28 frames the second window starts at 4, and only the last four of the first change."""
    _, first, second = steps.long_clip("keyframes", 28, grid(4, 6))
    assert (first.frames, second.frames) == (tuple(range(24)), tuple(range(4, 28)))
    strengths = dict(zip(second.frames, rounded(second), strict=True))
    assert [strengths[frame] for frame in range(4, 20)] == [0] * 16
    assert [strengths[frame] for frame in range(20, 24)] == [0.212, 0.425, 0.637, 0.85]
    keys = steps.key_frames(28, 24)
    assert [strengths[f] for f in range(24, 28)] == [
        0.85 if f in keys else 1 for f in range(24, 28)
    ]


def test_windows_go_on_past_the_end() -> None:
    """Frame 8 is given: the window that meets it keeps it."""
    planned = steps.long_clip("windows", 10, GRID, {0, 8})
    assert [(list(step.frames), rounded(step)) for step in planned] == [
        ([0, 1, 2, 3, 4, 5], [0, 1, 1, 1, 1, 1]),
        ([3, 4, 5, 6, 7, 8], [0, 0, 0, 1, 1, 0]),
        ([6, 7, 8, 9, 10, 11], [0, 0, 0, 1, 1, 1]),
    ]


def test_a_clip_goes_on_from_its_last_frames() -> None:
    four, two = steps.windows(31, grid(4, 6), finished=9), steps.windows(8, GRID, finished=2)
    assert [(step.frames, step.plan.kept) for step in four] == [
        (tuple(range(5, 29)), (0, 1, 2, 3)),
        (tuple(range(25, 49)), (0, 1, 2, 3)),
    ]
    assert [(step.frames, step.plan.kept) for step in two] == [
        ((0, 1, 2, 3, 4, 5), (0, 1)),
        ((3, 4, 5, 6, 7, 8), (0, 1, 2)),
    ]


def test_restoring_keeps_what_the_window_before_has_drawn() -> None:
    planned = steps.restoration(10, GRID, 0.3)
    assert [(list(step.frames), rounded(step)) for step in planned] == [
        ([0, 1, 2, 3, 4, 5], [0.3] * 6),
        ([3, 4, 5, 6, 7, 8], [0, 0, 0, 0.3, 0.3, 0.3]),
        ([4, 5, 6, 7, 8, 9], [0, 0, 0, 0, 0, 0.3]),
    ]


def test_editing_begins_with_frames_of_the_whole_clip() -> None:
    """Windows share one frame; one whose frames are all edited is left out."""
    planned = steps.edit(10, GRID, 0.9, "a circle")
    assert [(list(step.frames), rounded(step)) for step in planned] == [
        ([0, 2, 4, 5, 7, 9], [0.9] * 6),
        ([0, 1, 2, 3, 4, 5], [0, 0.9, 0, 0.9, 0, 0]),
        ([4, 5, 6, 7, 8, 9], [0, 0, 0.9, 0, 0.9, 0]),
    ]
    assert [step.frames for step in steps.edit(8, GRID, 0.9, "")] == [
        (0, 1, 3, 4, 6, 7),
        (0, 1, 2, 3, 4, 5),
    ]
    assert len(steps.edit(6, GRID, 0.9, "")) == 1


def test_an_edit_of_no_strength_draws_nothing() -> None:
    assert steps.edit(10, GRID, 0.0, "") == ()


def test_key_frames_have_all_given_ones_among_them() -> None:
    assert steps.key_frames(16, 6) == [0, 3, 6, 9, 12, 15]
    assert steps.key_frames(16, 6, {0, 7, 15}) == [0, 3, 7, 9, 12, 15]
    assert steps.key_frames(16, 6, {4, 5}) == [0, 4, 5, 9, 12, 15]
    for given in combinations(range(9), 3):
        keys = steps.key_frames(9, 4, given)
        assert (len(set(keys)), sorted(keys), set(given) <= set(keys)) == (4, keys, True)


def test_what_cannot_be_a_clip_is_refused() -> None:
    with pytest.raises(UsageError, match="'frames' is unknown; choose keyframes or windows"):
        steps.long_clip("frames", 16, GRID)
    with pytest.raises(UsageError, match="frames is 5, and the grid has 6; ask for 6 or more"):
        steps.long_clip("keyframes", 5, GRID)
    single = grid(1, 1)
    for plan in (steps.key_frame_grids, steps.windows):
        assert len(plan(1, single)) == 1
        with pytest.raises(UsageError, match="the grid has one cell"):
            plan(2, single)
    with pytest.raises(UsageError, match="the grid has one cell"):
        steps.windows(2, single, finished=1)
    with pytest.raises(UsageError, match="the grid has one cell"):
        steps.edit(2, single, 0.9, "")
    assert len(steps.restoration(2, single, 0.3)) == 2  # these need not share frames


def test_a_step_prints_the_clips_frames_as_they_lie() -> None:
    turning = Grid(rows=2, cols=3, cell=(32, 32), order="serpentine")
    _, step, *_ = steps.long_clip("keyframes", 16, turning, {0})
    assert str(step).splitlines() == [
        "  0 keep         1 generate     2 generate",
        "  5 generate     4 generate     3 init 0.85",
    ]
    assert step.to_json() == {
        "frames": [0, 1, 2, 3, 4, 5],
        "actions": ["keep", "generate", "generate", "init", "generate", "generate"],
        "release": [0.0, 1.0, 1.0, 0.85, 1.0, 1.0],
    }
    edited = steps.edit(10, GRID, 1.0, "a circle")[1]
    assert edited.actions == ("keep", "edit", "keep", "edit", "keep", "keep")
    assert "1 edit 1.00" in str(edited)


def test_which_steps_continue_known_frames() -> None:
    """They need an adapter that was trained with clean cells."""
    assert not steps.one_grid(GRID)[0].continues_frames
    assert steps.one_grid(GRID, {0})[0].continues_frames
    key, between, *_ = steps.long_clip("keyframes", 16, GRID)
    assert (key.continues_frames, between.continues_frames) == (False, True)
    assert not any(step.continues_frames for step in steps.restoration(10, GRID, 0.3))
    assert not any(step.continues_frames for step in steps.edit(10, GRID, 1.0, ""))
