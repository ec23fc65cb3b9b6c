"""Tasks that change a clip: edit and restore."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.generate import Request, draw
from gridctl.generate.preview import preview
from gridctl.generate.tasks import edit, extend, restore, t2v
from gridctl.media.write import write_clip
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Scene

Make = Callable[..., Any]
SCENE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="moving right",
    size=0.2, x=0.2, y=0.5, speed=0.5,
)  # fmt: skip
RED, BLUE = (f"a {color} circle moving right on a black background" for color in ("red", "blue"))


@pytest.fixture
def profile(make_profile: Make, adapter: Path) -> Any:
    return make_profile(model__adapter=str(adapter), generate__steps=2, pack__sample="windows")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames, losslessly: two windows of the grid's six."""
    write_clip(render_clip(SCENE, 10, (32, 32)), tmp_path / "clip.webp", fps=5)
    return tmp_path / "clip.webp"


def frames_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def request(profile: Any, folder: Path, prompt: str = "") -> Request:
    return Request(prompts=(prompt,), output=folder / "out", profile=profile)


def test_a_whole_clip_is_edited_window_by_window(profile: Any, clip: Path, tmp_path: Path) -> None:
    drawing = edit(request(profile, tmp_path, BLUE), clip=clip, source_prompt=RED)
    assert (drawing.steps[0].frames, drawing.fps, len(drawing.steps)) == (
        (0, 2, 4, 5, 7, 9),
        5.0,
        3,
    )
    assert draw(drawing).warnings == ()
    frames = frames_of(tmp_path / "out")
    assert frames.shape == (10, 32, 32, 3)
    keys = drawing.steps[0].frames
    assert not np.array_equal(frames[list(keys)], [drawing.references[key] for key in keys])


def test_a_plan_of_a_long_clip_shows_the_frames_of_its_first_grid(
    profile: Any, clip: Path, tmp_path: Path
) -> None:
    """An edit begins with key frames, a restoration and an extension with a window."""
    whole = render_clip(SCENE, 10, (32, 32))
    asked = request(profile, tmp_path, BLUE)
    drawings = [
        edit(asked, clip=clip, source_prompt=RED),
        restore(asked, clip=clip),
        extend(asked, clip=clip, frames=20),
    ]
    for drawing, shown in zip(drawings, [(0, 2, 4, 5, 7, 9), range(6), range(7, 13)], strict=True):
        assert drawing.steps[0].frames == tuple(shown)
        for cell, frame in enumerate(shown):
            if drawing.steps[0].plan.release[cell] < 1:
                assert np.array_equal(drawing.references[frame], whole[frame])
        assert preview(drawing).width > 0
    assert "grid 3/3 2x3 cells" in str(drawings[0])


@pytest.mark.parametrize("task", [edit, restore])
def test_as_many_frames_of_a_clip_as_asked_for(
    make_profile: Make, adapter: Path, clip: Path, tmp_path: Path, task: Any
) -> None:
    """Spread over the clip, whatever pack.sample says."""
    profile = make_profile(model__adapter=str(adapter), generate__steps=2)
    request = Request(prompts=(BLUE,), output=tmp_path / "out", profile=profile)
    drawing = task(request, clip=clip, frames=8)
    chosen = render_clip(SCENE, 10, (32, 32))[[0, 1, 3, 4, 5, 6, 8, 9]]
    assert np.array_equal(list(drawing.references.values()), chosen)
    assert (len(drawing.steps), drawing.fps) == (2, 4.0)
    with pytest.raises(InputError, match="has 10 frames, and 11 are asked for"):
        task(request, clip=clip, frames=11)
    with pytest.raises(UsageError, match="frames is 5, and the grid has 6"):
        task(request, clip=clip, frames=5)


def test_an_edit_to_the_same_prompt_is_the_round_trip_of_the_vae(
    profile: Any, clip: Path, base: Any, tmp_path: Path
) -> None:
    from gridctl.models.latents import decode_frames, encode_frames

    same = {"generate.edit_guidance": 1.0, "generate.edit_source_guidance": 1.0}
    profile = profile.with_values(same | {"pack.sample": "uniform"})
    drawing = edit(request(profile, tmp_path, RED), clip=clip, source_prompt=RED)
    draw(drawing)
    with base.vae() as vae:
        wanted = decode_frames(
            vae, encode_frames(vae, np.stack(list(drawing.references.values())), batch=8), batch=8
        )
    assert wanted.shape == (6, 32, 32, 3)
    assert np.abs(frames_of(tmp_path / "out").astype(int) - wanted).max() <= 2


def test_the_source_prompt_is_what_came_with_the_clip(
    profile: Any, clip: Path, tmp_path: Path
) -> None:
    unknown = edit(request(profile, tmp_path, BLUE), clip=clip)
    assert "--source-prompt" in unknown.warnings[0]
    clip.with_suffix(".txt").write_text(RED)
    known = edit(request(profile, tmp_path, BLUE), clip=clip)
    assert known.warnings == ()
    assert known.prompts[1:] == (f"2x3 grid of 6 video frames in reading order. {RED}",)


@pytest.mark.parametrize("name", ["drawn.mp4", "drawn.webp", "drawn"])
def test_a_clip_that_gridctl_drew_says_its_prompt(profile: Any, tmp_path: Path, name: str) -> None:
    drawn = Request(prompts=(RED,), output=tmp_path / name, profile=profile)
    draw(t2v(drawn))
    edited = edit(request(profile, tmp_path, BLUE), clip=tmp_path / name)
    assert (edited.warnings, edited.prompts[1].endswith(RED)) == ((), True)


def test_a_grid_image_is_a_clip_with_its_own_words(
    profile: Any, dataset: Path, tmp_path: Path
) -> None:
    grid = sorted(dataset.glob("*.png"))[0]
    drawing = restore(request(profile, tmp_path), clip=grid)
    assert np.stack(list(drawing.references.values())).shape == (6, 32, 32, 3)
    caption = grid.with_suffix(".txt").read_text().strip()
    assert drawing.outputs[0].prompt == caption


def test_restoring_draws_a_little(profile: Any, clip: Path, tmp_path: Path) -> None:
    result = restore(request(profile, tmp_path, RED), clip=clip)
    draw(result)
    frames = frames_of(tmp_path / "out").astype(int)
    assert frames.shape == (10, 32, 32, 3)
    near = np.abs(frames - render_clip(SCENE, 10, (32, 32))).mean()
    assert 0 < near < 30


@pytest.mark.parametrize("sample", ["scenes", "fps=8"])
def test_other_ways_to_sample_are_for_packing(
    profile: Any, clip: Path, tmp_path: Path, sample: str
) -> None:
    profile = profile.with_values({"pack.sample": sample})
    with pytest.raises(UsageError, match="is for packing"):
        restore(request(profile, tmp_path), clip=clip)


def test_a_clip_that_fills_no_grid_is_refused(profile: Any, tmp_path: Path) -> None:
    write_clip(render_clip(SCENE, 3, (32, 32)), tmp_path / "short.webp", fps=5)
    with pytest.raises(InputError, match=r"short.webp has 3 frames, and the grid has 6 cells"):
        restore(request(profile, tmp_path), clip=tmp_path / "short.webp")
