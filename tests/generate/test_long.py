"""Clips longer than a grid: t2v and i2v with `frames`, and extend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import UsageError
from gridctl.generate import Request, draw
from gridctl.generate.steps import key_frames
from gridctl.generate.tasks import extend, i2v, t2v
from gridctl.media.write import write_clip
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Scene

Make = Callable[..., Any]
PROMPT = "a red circle moving right on a black background"
SCENE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="moving right",
    size=0.2, x=0.2, y=0.5, speed=0.5,
)  # fmt: skip


@pytest.fixture
def profile(make_profile: Make, adapter: Path) -> Any:
    return make_profile(model__adapter=str(adapter), generate__steps=1)


def drawn(drawing: Any) -> tuple[np.ndarray, int]:
    """The frames, and the steps that were reported."""
    reported: list[tuple[int, int]] = []
    (folder,) = draw(
        drawing, progress=lambda done, total, _: reported.append((done, total))
    ).written
    steps = reported[1:]  # after "loading the model"
    assert steps == [(step, len(steps)) for step in range(1, len(steps) + 1)]
    files = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(path)) for path in files]), len(steps)


def request(profile: Any, folder: Path) -> Request:
    return Request(prompts=(PROMPT,), output=folder, profile=profile)


def test_windows_go_on_from_the_last_frames(profile: Any, tmp_path: Path) -> None:
    short, _ = drawn(t2v(request(profile, tmp_path / "short")))
    long, grids = drawn(t2v(request(profile, tmp_path / "a"), frames=11, long="windows"))
    assert (len(long), grids) == (11, 3)
    assert np.array_equal(long[:6], short)


def test_key_frames_are_those_of_one_grid_or_near_them(profile: Any, tmp_path: Path) -> None:
    short, _ = drawn(t2v(request(profile, tmp_path / "short")))
    long, grids = drawn(t2v(request(profile, tmp_path / "a"), frames=16))
    assert (len(long), grids) == (16, 5)
    keys, others = long[[0, 3, 6, 9]].astype(float), long[[1, 4, 7, 10]].astype(float)
    assert np.abs(keys - short[:4]).mean() < 0.5 * np.abs(others - short[:4]).mean()


def test_as_many_frames_as_the_grid_has_is_one_grid(profile: Any, tmp_path: Path) -> None:
    assert (
        t2v(request(profile, tmp_path / "a"), frames=6).steps
        == t2v(request(profile, tmp_path / "a")).steps
    )
    with pytest.raises(UsageError, match=r"frames is 5, and the grid has 6"):
        t2v(request(profile, tmp_path / "a"), frames=5)


@pytest.mark.parametrize(("long", "grids"), [("keyframes", 5), ("windows", 5)])
def test_given_frames_stay_in_a_longer_clip(
    profile: Any, tmp_path: Path, long: str, grids: int
) -> None:
    """Also those between key frames, and those that a later window meets first."""
    at = {0: tmp_path / "0.png", 7: tmp_path / "7.png", 15: tmp_path / "15.png"}
    for path, picture in zip(at.values(), render_clip(SCENE, 3, (32, 32)), strict=True):
        Image.fromarray(picture).save(path)
    drawing = i2v(
        request(profile, tmp_path / "a"),
        first=at[0],
        last=at[15],
        at=[(7, at[7])],
        frames=16,
        long=long,
    )
    frames, steps = drawn(drawing)
    assert (len(frames), steps) == (16, grids)
    for frame, path in at.items():
        assert np.array_equal(frames[frame], np.asarray(Image.open(path)))
    assert all(frame.any() for frame in frames)


def test_key_frames_have_all_given_ones_among_them() -> None:
    assert key_frames(16, 6, {}) == [0, 3, 6, 9, 12, 15]
    assert key_frames(16, 6, {0, 7, 15}) == [0, 3, 7, 9, 12, 15]
    assert key_frames(16, 6, {4, 5}) == [0, 4, 5, 9, 12, 15]


def test_another_way_to_be_long_and_a_frame_past_the_end_are_refused(
    profile: Any, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="'frames' is unknown; choose keyframes or windows"):
        t2v(request(profile, tmp_path / "a"), frames=16, long="frames")
    with pytest.raises(UsageError, match="for frame 16, and the frames are 0 to 15"):
        i2v(request(profile, tmp_path / "a"), at=[(16, tmp_path / "a.png")], frames=16)


def test_a_clip_is_extended_and_its_own_frames_stay(profile: Any, tmp_path: Path) -> None:
    clip = render_clip(SCENE, 4, (32, 32))
    write_clip(clip, tmp_path / "clip.webp", fps=5)
    drawing = extend(request(profile, tmp_path / "a"), clip=tmp_path / "clip.webp", frames=9)
    assert drawing.fps == 5
    frames, grids = drawn(drawing)
    assert (len(frames), grids) == (9, 2)
    assert np.array_equal(frames[:4], clip)
    by_default = extend(request(profile, tmp_path / "b"), clip=tmp_path / "clip.webp")
    assert len(drawn(by_default)[0]) == 7
    with pytest.raises(UsageError, match="frames is 4"):
        extend(request(profile, tmp_path / "a"), clip=tmp_path / "clip.webp", frames=4)


def test_a_grid_of_one_cell_cannot_be_continued(make_profile: Make, tmp_path: Path) -> None:
    asked = request(make_profile(model__adapter="none", grid__rows=1, grid__cols=1), tmp_path / "a")
    write_clip(np.zeros((3, 32, 32, 3), np.uint8), tmp_path / "clip.webp", fps=5)
    with pytest.raises(UsageError, match="the grid has one cell"):
        t2v(asked, frames=3)
    with pytest.raises(UsageError, match="the grid has one cell"):
        extend(asked, clip=tmp_path / "clip.webp")
