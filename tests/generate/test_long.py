"""Clips longer than a grid: t2v with `frames`, and extend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import UsageError
from gridctl.generate import Request, draw
from gridctl.generate.tasks import extend, t2v
from gridctl.media.write import write_clip
from gridctl.toyworld.render import render_clip
from gridctl.toyworld.scene import Scene

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
    steps: list[int] = []
    (folder,) = draw(drawing, progress=lambda done, total, _: steps.append(total)).written
    assert steps == [len(steps)] * len(steps)
    files = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(path)) for path in files]), len(steps)


def request(profile: Any, folder: Path) -> Request:
    return Request(prompts=(PROMPT,), output=folder, profile=profile)


def test_windows_go_on_from_the_last_frames(profile: Any, tmp_path: Path) -> None:
    short, _ = drawn(t2v.prepare(request(profile, tmp_path / "short")))
    long, grids = drawn(t2v.prepare(request(profile, tmp_path / "a"), frames=11, long="windows"))
    assert (len(long), grids) == (11, 3)
    assert np.array_equal(long[:6], short)


def test_key_frames_are_those_of_one_grid(profile: Any, tmp_path: Path) -> None:
    short, _ = drawn(t2v.prepare(request(profile, tmp_path / "short")))
    long, grids = drawn(t2v.prepare(request(profile, tmp_path / "a"), frames=16))
    assert (len(long), grids) == (16, 4)
    assert np.array_equal(long[[0, 3, 6, 9, 12, 15]], short)
    assert all(frame.any() for frame in long)


def test_as_many_frames_as_the_grid_has_is_one_grid(profile: Any, tmp_path: Path) -> None:
    assert t2v.prepare(request(profile, tmp_path / "a"), frames=6).num_grids == 1
    with pytest.raises(UsageError, match=r"frames is 5, and the grid has 6"):
        t2v.prepare(request(profile, tmp_path / "a"), frames=5)


def test_a_clip_is_extended_and_its_own_frames_stay(profile: Any, tmp_path: Path) -> None:
    clip = render_clip(SCENE, 4, (32, 32))
    write_clip(clip, tmp_path / "clip.webp", fps=5)
    drawing = extend.prepare(
        request(profile, tmp_path / "a"), clip=tmp_path / "clip.webp", frames=9
    )
    assert drawing.fps == 5
    frames, grids = drawn(drawing)
    assert (len(frames), grids) == (9, 2)
    assert np.array_equal(frames[:4], clip)
    by_default = extend.prepare(request(profile, tmp_path / "b"), clip=tmp_path / "clip.webp")
    assert len(drawn(by_default)[0]) == 7
    with pytest.raises(UsageError, match="frames is 4"):
        extend.prepare(request(profile, tmp_path / "a"), clip=tmp_path / "clip.webp", frames=4)
