"""What outputs record, and drawing them again from that."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError
from gridctl.generate import Request, draw, tasks
from gridctl.generate.record import remake
from gridctl.media.record import read_record
from gridctl.media.write import write_clip
from gridctl.models.hub import file_hash
from gridctl.profile import Profile
from tests.generate.clips import BLUE, RED

Make = Callable[..., Any]


@pytest.fixture
def profile(small: Make) -> Profile:
    made: Profile = small(generate__seed=5, generate__size="32x32")
    return made


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A red picture."""
    Image.new("RGB", (40, 40), "red").save(tmp_path / "first.png")
    return tmp_path / "first.png"


def request(
    profile: Profile, output: Path, prompt: str = RED, fps: float | None = None, **more: Any
) -> Request:
    if fps:
        profile = profile.with_values({"generate.fps": fps}, as_flags=True)
    return Request(prompts=(prompt,), output=output, profile=profile, **more)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png", "a.jpg", "a"])
def test_every_format_says_how_it_was_made(
    profile: Profile, adapter: Path, tmp_path: Path, name: str
) -> None:
    draw(tasks.t2v(request(profile, tmp_path / name)))
    found = read_record(tmp_path / name)
    assert found is not None
    assert (found["task"], found["prompt"], found["seed"]) == ("t2v", RED, 5)
    assert found["adapter"] == file_hash(adapter)
    assert {"gridctl", "torch", "diffusers"} <= set(found["versions"])


def test_a_record_has_what_decides_a_clip(profile: Profile, clip: Path, tmp_path: Path) -> None:
    """These keys stand in files that people have: outputs are compared by them."""
    draw(tasks.edit(request(profile, tmp_path / "a", BLUE), clip=clip, source_prompt=RED))
    found = read_record(tmp_path / "a") or {}
    assert set(found) == {
        "gridctl", "command", "task", "prompt", "seed", "arguments", "fps", "profile", "base",
        "adapter", "versions",
    }  # fmt: skip
    assert (found["command"], found["task"], found["fps"]) == ("generate", "edit", 3.0)
    assert found["arguments"] == {
        "clip": {"path": str(clip), "sha256": file_hash(clip)},
        "source_prompt": RED,
        "frames": None,
    }
    kept = found["profile"]
    assert set(kept) == {"grid", "model", "memory", "generate", "pack", "caption"}
    assert set(kept["pack"]) == {"sample", "fit", "background"}
    assert kept["caption"] == {"layout": "video"}
    assert kept["generate"]["steps"] == 1


def test_all_tasks_come_out_the_same_again(profile: Profile, first: Path, tmp_path: Path) -> None:
    """To the last byte, at the rate of the clip that they were made from."""
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8)
    clip = tmp_path / "clip.webp"
    write_clip(frames, clip, fps=5)
    jobs = [
        tasks.t2v(request(profile, tmp_path / "t2v.webp", fps=3.0), frames=8, long="windows"),
        tasks.i2v(request(profile, tmp_path / "i2v.webp"), first=first, at=[(3, first)]),
        tasks.interpolate(request(profile, tmp_path / "a.webp", ""), pictures=[first, first]),
        tasks.multiview(request(profile, tmp_path / "turn.webp", "a cube"), front=first),
        tasks.extend(request(profile, tmp_path / "extend.webp"), clip=clip),
        tasks.restore(request(profile, tmp_path / "restore.webp"), clip=clip),
        tasks.edit(request(profile, tmp_path / "edit.webp", fps=9.0), clip=clip),
        tasks.image(request(profile, tmp_path / "image.png")),
    ]
    assert {job.task for job in jobs} == set(tasks.TASKS)
    for job in jobs:
        (path,) = draw(job).written
        again = tmp_path / f"again-{path.name}"
        made = remake(path, again)
        assert (made.fps, made.steps, made.task) == (job.fps, job.steps, job.task)
        draw(made)
        assert again.read_bytes() == path.read_bytes()


def test_the_rate_of_the_record_counts(profile: Profile, tmp_path: Path) -> None:
    """A clip that --fps made is made again at that rate, not at the adapter's."""
    draw(tasks.t2v(request(profile, tmp_path / "a.webp", fps=3.0)))
    assert remake(tmp_path / "a.webp", tmp_path / "b.webp").fps == 3.0


def test_the_best_of_several_is_drawn_alone_again(profile: Profile, tmp_path: Path) -> None:
    draw(tasks.t2v(request(profile, tmp_path / "a.webp", best_of=2)))
    made = remake(tmp_path / "a.webp", tmp_path / "b.webp")
    seed = (read_record(tmp_path / "a.webp") or {})["seed"]
    assert (made.best_of, made.outputs[0].seed) == (1, seed)


def test_references_are_found_beside_the_output(
    profile: Profile, first: Path, tmp_path: Path
) -> None:
    """They must be the same files."""
    draw(tasks.i2v(request(profile, tmp_path / "a.webp"), first=first))
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("first.png", "a.webp"):
        shutil.move(tmp_path / name, moved / name)
    assert remake(moved / "a.webp", tmp_path / "b.webp").steps[0].plan.kept == (0,)
    Image.new("RGB", (40, 40), "blue").save(moved / "first.png")
    with pytest.raises(InputError, match=r"first\.png is not there as it was"):
        remake(moved / "a.webp", tmp_path / "b.webp")


def test_a_folder_is_known_by_all_its_files(profile: Profile, tmp_path: Path) -> None:
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    folder = tmp_path / "frames"
    write_clip(frames, folder, fps=5)
    draw(tasks.restore(request(profile, tmp_path / "a.webp"), clip=folder))
    remake(tmp_path / "a.webp", tmp_path / "b.webp")
    (folder / "frame_0003.png").rename(folder / "frame_0007.png")
    with pytest.raises(InputError, match="frames is not there as it was"):
        remake(tmp_path / "a.webp", tmp_path / "b.webp")


def test_another_adapter_than_before_is_refused(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.safetensors"
    shutil.copy(adapter, own)
    profile = make_profile(model__adapter=str(own), generate__steps=1)
    draw(tasks.t2v(request(profile, tmp_path / "a.gif")))
    data = bytearray(own.read_bytes())
    data[-1] ^= 1
    own.write_bytes(bytes(data))
    with pytest.raises(InputError, match="another adapter"):
        remake(tmp_path / "a.gif", tmp_path / "b.gif")


def test_a_file_that_says_nothing_cannot_be_remade(profile: Profile, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "plain.png")
    with pytest.raises(InputError, match="does not say how it was made"):
        remake(tmp_path / "plain.png", tmp_path / "b.png")
    with pytest.raises(InputError, match=r"nowhere\.png does not exist"):
        remake(tmp_path / "nowhere.png", tmp_path / "b.png")


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"generate.compile": True}, "another generate.compile are kept"),
        ({"model.attention": "math"}, "another model.attention are kept"),
        (
            {"memory.encode_batch": 2, "memory.decode_batch": 2},
            "another memory.encode_batch and memory.decode_batch are kept",
        ),
        ({"memory.offload": "group"}, "another memory.offload are kept"),
        ({"memory.optimizer": "adamw8bit", "memory.preset": None}, ""),
        ({"generate.fps": 3.0}, ""),  # the adapter's counts
    ],
)
def test_a_setting_that_only_rounds_keeps_an_output(
    profile: Profile, tmp_path: Path, values: dict[str, Any], warning: str
) -> None:
    output = tmp_path / "a.gif"
    draw(tasks.t2v(request(profile, output)))
    result = draw(tasks.t2v(request(profile.with_values(values), output)))
    assert result.skipped == (output,)
    assert (len(result.warnings), warning in "".join(result.warnings)) == (bool(warning), True)


@pytest.mark.parametrize(
    "values",
    [
        {"generate.steps": 2},
        {"generate.seed": 6},
        {"generate.edit_guidance": 9.0},
        {"memory.quantize": "int8"},
        {"model.dtype": "bfloat16"},
        {"model.adapter_scale": 0.5},
        {"pack.fit": "pad"},
        {"pack.background": "white"},
        {"pack.sample": "windows"},  # an edit of other frames
        {"caption.layout": "turn"},
    ],
)
def test_a_setting_that_changes_a_clip_does_not(
    profile: Profile, tmp_path: Path, values: dict[str, Any]
) -> None:
    output = tmp_path / "a.gif"
    draw(tasks.t2v(request(profile, output)))
    with pytest.raises(InputError, match="--force"):
        draw(tasks.t2v(request(profile.with_values(values), output)))


@pytest.mark.parametrize("changed", ["prompt", "fps", "arguments", "task", "file"])
def test_another_clip_is_not_taken_for_the_same(
    profile: Profile, clip: Path, first: Path, tmp_path: Path, changed: str
) -> None:
    output = tmp_path / "a.gif"
    draw(tasks.restore(request(profile, output), clip=clip))
    if changed == "file":
        write_clip(np.zeros((10, 32, 32, 3), np.uint8), clip, fps=5, force=True)
    job = {
        "prompt": lambda: tasks.restore(request(profile, output, BLUE), clip=clip),
        "fps": lambda: tasks.restore(request(profile, output, fps=4.0), clip=clip),
        "arguments": lambda: tasks.restore(request(profile, output), clip=clip, frames=7),
        "task": lambda: tasks.i2v(request(profile, output, fps=3.0), first=first),
        "file": lambda: tasks.restore(request(profile, output), clip=clip),
    }[changed]()
    with pytest.raises(InputError, match="--force"):
        draw(job)


def test_the_same_seed_is_the_same_clip_however_counted(profile: Profile, tmp_path: Path) -> None:
    """The second prompt of a call that starts with seed 5 is one that starts with seed 6."""
    both = Request(prompts=("a star", RED), output=tmp_path / "clips", profile=profile, many=True)
    _, second = draw(tasks.t2v(both)).written
    alone = profile.with_values({"generate.seed": 6})
    assert draw(tasks.t2v(request(alone, second))).skipped == (second,)
