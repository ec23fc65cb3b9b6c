"""What outputs record, and drawing them again from that."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import load_grid, split
from gridctl.errors import InputError
from gridctl.generate import Request, draw
from gridctl.generate.record import remake
from gridctl.generate.tasks import edit, i2v, image, t2v
from gridctl.media.record import read_record
from gridctl.media.write import write_clip
from gridctl.models.hub import file_hash

Make = Callable[..., Any]
PROMPT = "a red circle moving right on a black background"


@pytest.fixture
def profile(make_profile: Make, adapter: Path) -> Any:
    return make_profile(
        model__adapter=str(adapter), generate__steps=1, generate__seed=5, generate__size="32x32"
    )


def request(profile: Any, output: Path, prompt: str = PROMPT) -> Request:
    return Request(prompts=(prompt,), output=output, profile=profile)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png", "a.jpg", "a"])
def test_every_format_says_how_it_was_made(
    profile: Any, adapter: Path, tmp_path: Path, name: str
) -> None:
    draw(t2v(request(profile, tmp_path / name)))
    found = read_record(tmp_path / name)
    assert found is not None
    assert (found["task"], found["prompt"], found["seed"]) == ("t2v", PROMPT, 5)
    assert found["adapter"] == file_hash(adapter)
    assert found["profile"]["generate"]["steps"] == 1
    assert {"gridctl", "torch", "diffusers"} <= set(found["versions"])


def test_a_png_is_a_grid_image_with_facts(profile: Any, tmp_path: Path) -> None:
    draw(t2v(request(profile, tmp_path / "grid.png")))
    draw(t2v(request(profile, tmp_path / "frames")))
    picture, metadata = load_grid(tmp_path / "grid.png")
    assert metadata is not None
    assert (metadata.text, metadata.fps, metadata.num_frames) == (PROMPT, 12.0, 6)
    files = sorted((tmp_path / "frames").glob("*.png"))
    assert np.array_equal(split(picture, metadata.grid), [np.asarray(Image.open(f)) for f in files])


def test_clips_pictures_and_edits_come_out_the_same_again(profile: Any, tmp_path: Path) -> None:
    first = tmp_path / "first.png"
    Image.new("RGB", (40, 40), "red").save(first)
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8)
    write_clip(frames, tmp_path / "clip.webp", fps=5)
    drawings = [
        image(request(profile, tmp_path / "image.png")),
        i2v(request(profile, tmp_path / "i2v.webp"), first=first, at=[(3, first)]),
        edit(request(profile, tmp_path / "edit.webp"), clip=tmp_path / "clip.webp"),
    ]
    for drawing in drawings:
        (path,) = draw(drawing).written
        again = tmp_path / f"again-{path.name}"
        draw(remake(path, again))
        assert again.read_bytes() == path.read_bytes()


def test_references_are_found_beside_the_output_and_must_be_the_same(
    profile: Any, tmp_path: Path
) -> None:
    first = tmp_path / "first.png"
    Image.new("RGB", (40, 40), "red").save(first)
    draw(i2v(request(profile, tmp_path / "a.webp"), first=first))
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("first.png", "a.webp"):
        shutil.move(tmp_path / name, moved / name)
    assert remake(moved / "a.webp", tmp_path / "b.webp").steps[0].plan.kept == (0,)
    Image.new("RGB", (40, 40), "blue").save(moved / "first.png")
    with pytest.raises(InputError, match=r"first\.png is not there as it was"):
        remake(moved / "a.webp", tmp_path / "b.webp")


def test_another_adapter_than_before_is_refused(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.safetensors"
    shutil.copy(adapter, own)
    profile = make_profile(model__adapter=str(own), generate__steps=1)
    draw(t2v(request(profile, tmp_path / "a.gif")))
    data = bytearray(own.read_bytes())
    data[-1] ^= 1
    own.write_bytes(bytes(data))
    with pytest.raises(InputError, match="another adapter"):
        remake(tmp_path / "a.gif", tmp_path / "b.gif")


def changed(profile: Any, section: str, **values: Any) -> Any:
    return profile.with_values({f"{section}.{key}": value for key, value in values.items()})


@pytest.mark.parametrize(
    ("section", "values", "note"),
    [
        ("generate", {"compile": True}, "another generate.compile are kept"),
        ("model", {"attention": "math"}, "another model.attention are kept"),
        ("memory", {"encode_batch": 2, "decode_batch": 2}, "encode_batch and memory.decode_batch"),
        ("memory", {"offload": "group"}, "another memory.offload are kept"),
        ("memory", {"optimizer": "adamw8bit", "preset": None}, ""),
        ("generate", {"fps": 3.0}, ""),  # the adapter's counts
    ],
)
def test_a_setting_that_only_rounds_leaves_a_finished_output(
    profile: Any, tmp_path: Path, section: str, values: dict[str, Any], note: str
) -> None:
    output = tmp_path / "a.gif"
    draw(t2v(request(profile, output)))
    result = draw(t2v(request(changed(profile, section, **values), output)))
    assert result.skipped == (output,)
    assert (len(result.warnings), note in "".join(result.warnings)) == (bool(note), True)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("generate", {"steps": 2}),
        ("memory", {"quantize": "int8"}),
        ("model", {"dtype": "bfloat16"}),
    ],
)
def test_a_setting_that_changes_a_clip_does_not(
    profile: Any, tmp_path: Path, section: str, values: dict[str, Any]
) -> None:
    output = tmp_path / "a.gif"
    draw(t2v(request(profile, output)))
    with pytest.raises(InputError, match="--force"):
        draw(t2v(request(changed(profile, section, **values), output)))


def test_the_same_seed_is_the_same_clip_however_it_was_counted(
    profile: Any, tmp_path: Path
) -> None:
    """The second prompt of a call that starts with seed 5 is one that starts with seed 6."""
    both = Request(
        prompts=("a star", PROMPT), output=tmp_path / "clips", profile=profile, many=True
    )
    _, second = draw(t2v(both)).written
    alone = changed(profile, "generate", seed=6)
    assert draw(t2v(request(alone, second))).skipped == (second,)
