"""Self-checks: each finds the clip that has exactly its fault, and none finds a true clip."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridctl.dataset.grid_image import compose, split
from gridctl.diffusion.plan import Plan
from gridctl.errors import UsageError
from gridctl.generate import Request, draw
from gridctl.generate.checks import LIMITS, DrawnGrid, check_clip
from gridctl.generate.record import remake
from gridctl.generate.tasks import image, t2v
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.media.record import read_record
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Scene, sample_scene

GRID = Grid(rows=4, cols=6, cell=(64, 64))
SCENE = Scene(
    kind="shape", shape="star", color="green", background="gray", motion="moving right",
    size=0.2, x=0.22, y=0.6, speed=0.5,
)  # fmt: skip
PROMPT = "a red circle moving right on a black background"
Make = Callable[..., Any]


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


def test_best_of_keeps_the_seed_with_the_best_checks(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    profile = make_profile(model__adapter=str(adapter), generate__steps=2, generate__seed=5)
    apart = Request(prompts=(PROMPT,) * 3, output=tmp_path / "all", profile=profile, many=True)
    each = draw(t2v(apart)).checks
    best = min(each, key=lambda path: each[path].badness)
    request = Request(prompts=(PROMPT,), output=tmp_path / "a.webp", profile=profile, best_of=3)
    result = draw(t2v(request))
    seed = (read_record(tmp_path / "a.webp") or {})["seed"]
    assert seed == 5 + list(each).index(best)
    assert result.checks[tmp_path / "a.webp"] == each[best]
    assert draw(t2v(request)).skipped == (tmp_path / "a.webp",)
    again = draw(remake(tmp_path / "a.webp", tmp_path / "b.webp"))
    assert again.checks[tmp_path / "b.webp"] == each[best]
    with pytest.raises(UsageError, match="no checks to choose by"):
        image(replace(request, output=tmp_path / "a.png"))
