"""Pictures of jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.generate import Job, tasks
from gridctl.generate.preview import preview, write_preview
from tests.generate.clips import BLUE, RED

Make = Callable[..., Any]


@pytest.fixture
def red(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 32), (250, 10, 10)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def areas(picture: Image.Image, color: tuple[int, int, int]) -> list[tuple[int, int]]:
    """(top, left) of each area of about this colour that is larger than a letter."""
    alike = np.pad(np.abs(np.asarray(picture).astype(int) - color).max(-1) < 6, ((1, 50),) * 2)
    corners = alike & ~np.roll(alike, 1, 0) & ~np.roll(alike, 1, 1)
    return [
        (int(top) - 1, int(left) - 1)
        for top, left in np.argwhere(corners)
        if alike[top : top + 50, left : left + 50].all()
    ]


def test_given_frames_are_shown_in_their_cells(ask: Make, red: Path) -> None:
    job = tasks.i2v(ask(RED), first=red, at=[(5, red)])
    picture = preview(job)
    # Cells of 96 pixels below 76 of text: 8 apart, and 28 with their numbers; borders of 3.
    assert areas(picture, (250, 10, 10)) == [(79, 11), (203, 219)]
    assert len(areas(picture, (0xE4, 0xE4, 0xE4))) == 4


def test_every_grid_is_shown(ask: Make, red: Path) -> None:
    """Given frames are shown in each grid that has them, drawn ones in none."""
    job = tasks.i2v(ask(RED), first=red, last=red, frames=16)
    assert len(job.steps) == 5
    picture = preview(job)
    assert len(areas(picture, (250, 10, 10))) == 3  # 0 and 15 of the first, 0 of the second
    assert len(areas(picture, (0xE4, 0xE4, 0xE4))) == 5 * 6 - 3
    assert picture.width < 3 * picture.height < 9 * picture.width


def test_frames_that_an_earlier_grid_changed_are_not_shown(
    ask: Make, small: Make, clip: Path
) -> None:
    job = tasks.edit(ask(BLUE, profile=small(pack__sample="windows")), clip=clip, source_prompt=RED)
    empty = len(areas(preview(job), (0xE4, 0xE4, 0xE4)))
    kept = [action for step in job.steps for action in step.actions if action == "keep"]
    assert empty == len(kept) == 8


@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_grids_lie_in_a_picture_as_wide_as_high(ask: Make, count: int) -> None:
    job = tasks.t2v(ask(RED), frames=3 * count + 3, long="windows")
    picture = preview(job)
    assert len(job.steps) == count
    assert len(areas(picture, (0xE4, 0xE4, 0xE4))) == 6 * count
    assert max(picture.size) < 4 * min(picture.size)


def test_a_clip_of_given_frames_and_a_long_prompt(ask: Make, red: Path) -> None:
    job = tasks.i2v(
        ask(" ".join([RED] * 9), BLUE, output="clips", many=True), at=[(k, red) for k in range(6)]
    )
    assert job.steps == ()
    assert preview(job).width == 560


def test_what_cannot_be_a_picture_is_refused(ask: Make, tmp_path: Path) -> None:
    job: Job = tasks.t2v(ask(RED))
    write_preview(job, tmp_path / "plan.png")
    assert Image.open(tmp_path / "plan.png").size == preview(job).size
    with pytest.raises(InputError, match="exists"):
        write_preview(job, tmp_path / "plan.png")
    write_preview(job, tmp_path / "plan.png", force=True)
    with pytest.raises(UsageError, match=r"a preview is written as \.jpg"):
        write_preview(job, tmp_path / "plan.gif")
