"""Tasks that start from pictures: i2v, interpolate, multiview."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.generate import Request, draw
from gridctl.generate.tasks import i2v, interpolate, multiview
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Scene
from gridctl.train import train

Make = Callable[..., Any]
PROMPT = "a red circle moving right on a black background"
SCENE = Scene(
    kind="shape", shape="circle", color="red", background="black", motion="moving right",
    size=0.2, x=0.2, y=0.5, speed=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def clean_adapter(make_profile: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that was trained with clean cells, for two steps."""
    path = tmp_path_factory.mktemp("clean") / "clean.safetensors"
    train(make_profile(train__output=path, train__steps=2, train__keep=0.5))
    metadata = read_adapter_metadata(path)
    assert metadata is not None
    assert metadata.keep
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three frames, of other sizes and formats than the grid's cells of 32x32."""
    paths = []
    for number, frame in enumerate(render_clip(SCENE, 3, (80, 64))):
        paths.append(tmp_path / f"{number}.{('png', 'bmp', 'webp')[number]}")
        Image.fromarray(frame).save(paths[-1])
    return paths


def fitted(path: Path) -> np.ndarray:
    """What `pack --fit crop` makes of a picture of 80x64: its middle, scaled down."""
    with Image.open(path) as image:
        square = image.convert("RGB").crop((8, 0, 72, 64))
        return np.asarray(square.resize((32, 32), Image.Resampling.HAMMING))


def frames_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize("clean", [True, False])
def test_given_frames_come_back_unchanged_and_the_others_are_drawn(
    make_profile: Make,
    adapter: Path,
    clean_adapter: Path,
    pictures: list[Path],
    tmp_path: Path,
    clean: bool,
) -> None:
    chosen = clean_adapter if clean else adapter
    profile = make_profile(model__adapter=str(chosen), generate__steps=2)
    request = Request(prompts=(PROMPT,), output=tmp_path / "clip", profile=profile)
    first, middle, last = pictures
    drawing = i2v(request, first=first, last=last, at=[(2, middle)])
    assert drawing.steps[0].plan.kept == (0, 2, 5)
    result = draw(drawing)
    assert ["not trained with clean cells" in note for note in result.warnings] == [True] * (
        not clean
    )
    frames = frames_of(tmp_path / "clip")
    for frame, path in [(0, first), (2, middle), (5, last)]:
        assert np.abs(frames[frame].astype(int) - fitted(path)).mean() < 0.5
        assert np.array_equal(frames[frame], drawing.references[frame])
    for frame in (1, 3, 4):
        assert frames[frame].any()


def test_clean_cells_change_what_is_drawn(
    make_profile: Make, clean_adapter: Path, pictures: list[Path], tmp_path: Path
) -> None:
    """They reach the transformer without noise, so its predictions differ."""
    from dataclasses import replace

    profile = make_profile(model__adapter=str(clean_adapter), generate__steps=2)
    request = Request(prompts=(PROMPT,), output=tmp_path / "clean", profile=profile)
    drawing = i2v(request, first=pictures[0])
    assert drawing.keep_clean
    draw(drawing)
    (output,) = drawing.outputs
    noised = replace(
        drawing, keep_clean=False, outputs=(replace(output, path=tmp_path / "noised"),)
    )
    draw(noised)
    clean, other = frames_of(tmp_path / "clean"), frames_of(tmp_path / "noised")
    assert np.array_equal(clean[0], other[0])
    assert not np.array_equal(clean[1:], other[1:])


def test_pictures_are_fitted_as_pack_fits_them(
    make_profile: Make, adapter: Path, pictures: list[Path], tmp_path: Path
) -> None:
    profile = make_profile(model__adapter=str(adapter), pack__fit="pad", pack__background="white")
    request = Request(prompts=(PROMPT,), output=tmp_path / "a.gif", profile=profile)
    reference = i2v(request, first=pictures[0]).references[0]
    assert (reference[:3] == 255).all()  # bars above and below 80x64
    assert (reference[16] < 255).any()


@pytest.mark.parametrize(("count", "kept"), [(2, (0, 5)), (3, (0, 3, 5))])
def test_interpolation_spreads_the_pictures(
    make_profile: Make,
    adapter: Path,
    pictures: list[Path],
    tmp_path: Path,
    count: int,
    kept: tuple[int, ...],
) -> None:
    profile = make_profile(model__adapter=str(adapter), generate__steps=1)
    request = Request(prompts=("",), output=tmp_path / "clip", profile=profile)
    drawing = interpolate(request, pictures=pictures[:count])
    assert drawing.steps[0].plan.kept == kept
    assert drawing.outputs[0].prompt == "2x3 grid of 6 video frames in reading order."
    draw(drawing)
    frames = frames_of(tmp_path / "clip")
    for frame, path in zip(kept, pictures, strict=False):
        assert np.abs(frames[frame].astype(int) - fitted(path)).mean() < 0.5


def test_a_turn_from_a_picture_or_from_a_prompt_alone(
    make_profile: Make, adapter: Path, pictures: list[Path], tmp_path: Path
) -> None:
    profile = make_profile(model__adapter=str(adapter), generate__steps=1)
    request = Request(prompts=("a pink cube",), output=tmp_path / "a.gif", profile=profile)
    alone = multiview(request)
    assert (alone.steps[0].plan.kept, alone.warnings) == ((), ())
    assert alone.outputs[0].prompt.endswith("reading order. a full turn of a pink cube")
    from_view = multiview(request, front=pictures[0])
    assert from_view.steps[0].plan.kept == (0,)
    draw(from_view)
    said = Request(prompts=("a cube making a turn",), output=tmp_path / "a.gif", profile=profile)
    assert multiview(said).outputs[0].prompt.endswith("order. a cube making a turn")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, UsageError, "no picture"),
        ({"first": "0.png", "at": [(0, "1.bmp")]}, UsageError, "both for frame 0"),
        ({"first": "0.png", "at": [(6, "1.bmp")]}, UsageError, "frames are 0 to 5"),
        ({"first": "nowhere.png"}, InputError, "does not exist"),
        ({"first": "broken.png"}, InputError, "broken.png cannot be read"),
    ],
)
def test_pictures_that_cannot_be_are_one_line(
    make_profile: Make,
    adapter: Path,
    pictures: list[Path],
    tmp_path: Path,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    profile = make_profile(model__adapter=str(adapter))
    request = Request(prompts=(PROMPT,), output=tmp_path / "a.gif", profile=profile)
    at = [(frame, tmp_path / name) for frame, name in options.get("at", ())]
    first = tmp_path / options["first"] if "first" in options else None
    with pytest.raises(error, match=words) as raised:
        i2v(request, first=first, at=at)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("count", [1, 7])
def test_interpolation_takes_two_pictures_or_more(
    make_profile: Make, adapter: Path, pictures: list[Path], tmp_path: Path, count: int
) -> None:
    profile = make_profile(model__adapter=str(adapter))
    request = Request(prompts=("",), output=tmp_path / "a.gif", profile=profile)
    with pytest.raises(UsageError, match=rf"takes 2 to 6 pictures, not {count}"):
        interpolate(request, pictures=[pictures[0]] * count)
