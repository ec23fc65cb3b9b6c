"""Tasks: the job that each makes of a request. No model is loaded."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.generate import Job, draw, tasks
from gridctl.generate.steps import edit, long_clip, one_grid, restoration, windows
from gridctl.geometry import Grid
from gridctl.media.images import Picture
from gridctl.media.write import write_clip
from tests.generate.clips import BLUE, RED, red_circle

Make = Callable[..., Any]
GRID = Grid(rows=2, cols=3, cell=(32, 32))
LAYOUT = "2x3 grid of 6 video frames in reading order."


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three frames, of other sizes and formats than the grid's cells of 32x32."""
    paths = []
    for number, frame in enumerate(red_circle(3, (80, 64))):
        paths.append(tmp_path / f"{number}.{('png', 'bmp', 'webp')[number]}")
        Image.fromarray(frame).save(paths[-1])
    return paths


def fitted(path: Path) -> Picture:
    """What `pack --fit crop` makes of a picture of 80x64: its middle, scaled down."""
    with Image.open(path) as image:
        square = image.convert("RGB").crop((8, 0, 72, 64))
        return np.asarray(square.resize((32, 32), Image.Resampling.HAMMING))


def shows(job: Job, frame: int, path: Path) -> bool:
    return bool(np.abs(job.references[frame].astype(int) - fitted(path)).mean() < 0.5)


def test_t2v_is_a_grid_or_several(ask: Make) -> None:
    job = tasks.t2v(ask(f"  {RED}\n"))
    assert (job.grid, job.steps, job.num_frames) == (GRID, one_grid(GRID), 6)
    assert (job.outputs[0].prompt, job.fps) == (f"{LAYOUT} {RED}", 12.0)
    assert (dict(job.arguments), job.warnings) == ({}, ())
    assert tasks.t2v(ask(RED), frames=6, long="windows").arguments == {}
    for way in ("keyframes", "windows"):
        long = tasks.t2v(ask(RED), frames=14, long=way)
        assert (long.steps, long.num_frames) == (long_clip(way, 14, GRID), 14)
        assert long.arguments == {"frames": 14, "long": way}
        assert "not trained with clean cells" in long.warnings[0]
    with pytest.raises(UsageError, match=r"frames is 5, and the grid has 6"):
        tasks.t2v(ask(RED), frames=5)
    with pytest.raises(UsageError, match="'loop' is unknown; choose keyframes or windows"):
        tasks.t2v(ask(RED), long="loop")


def test_i2v_keeps_pictures_where_they_are_given(ask: Make, pictures: list[Path]) -> None:
    first, middle, last = pictures
    job = tasks.i2v(ask(RED), first=first, last=last, at=[(2, middle)])
    assert job.steps == one_grid(GRID, {0, 2, 5})
    assert sorted(job.references) == [0, 2, 5]
    assert all(shows(job, frame, path) for frame, path in [(0, first), (2, middle), (5, last)])
    (warning,) = job.warnings
    assert "not trained with clean cells" in warning
    assert job.arguments == {
        "first": first, "last": last, "at": [(2, middle)], "frames": None, "long": "keyframes",
    }  # fmt: skip
    long = tasks.i2v(ask(RED), first=first, last=last, frames=14, long="windows")
    assert long.steps == long_clip("windows", 14, GRID, {0, 13})
    assert shows(long, 13, last)


def test_pictures_are_fitted_as_pack_fits_them(
    ask: Make, small: Make, pictures: list[Path]
) -> None:
    profile = small(pack__fit="pad", pack__background="white")
    reference = tasks.i2v(ask(RED, profile=profile), first=pictures[0]).references[0]
    assert (reference[:3] == 255).all()  # bars above and below 80x64
    assert (reference[16] < 255).any()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, UsageError, "no picture"),
        ({"first": "0.png", "at": [(0, "1.bmp")]}, UsageError, "both for frame 0"),
        ({"first": "0.png", "at": [(6, "1.bmp")]}, UsageError, "frames are 0 to 5"),
        ({"at": [(-1, "1.bmp")]}, UsageError, "frames are 0 to 5"),
        ({"at": [(16, "1.bmp")], "frames": 16}, UsageError, "frames are 0 to 15"),
        ({"at": [(k, "0.png") for k in range(7)], "frames": 16}, UsageError, "7 pictures are"),
        ({"first": "0.png", "frames": 5}, UsageError, "frames is 5, and the grid has 6"),
        ({"first": "nowhere.png"}, InputError, "does not exist"),
        ({"first": "broken.png"}, InputError, "broken.png cannot be read"),
    ],
)
def test_wrong_pictures_are_one_line(
    ask: Make,
    pictures: list[Path],
    tmp_path: Path,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    at = [(frame, tmp_path / name) for frame, name in options.get("at", ())]
    first = tmp_path / options["first"] if "first" in options else None
    with pytest.raises(error, match=words) as raised:
        tasks.i2v(ask(RED), first=first, at=at, frames=options.get("frames"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("count", "kept"), [(2, (0, 5)), (3, (0, 3, 5))])
def test_interpolation_spreads_the_pictures(
    ask: Make, pictures: list[Path], count: int, kept: tuple[int, ...]
) -> None:
    job = tasks.interpolate(ask(""), pictures=pictures[:count])
    assert job.steps == one_grid(GRID, kept)
    assert job.outputs[0].prompt == LAYOUT
    assert all(shows(job, *pair) for pair in zip(kept, pictures, strict=False))
    assert job.arguments == {"pictures": pictures[:count]}
    assert len(job.warnings) == 1
    for wrong in (1, 7):
        with pytest.raises(UsageError, match=rf"takes 2 to 6 pictures, not {wrong}"):
            tasks.interpolate(ask(""), pictures=[pictures[0]] * wrong)


def test_a_turn_from_a_picture_or_a_prompt(ask: Make, pictures: list[Path]) -> None:
    alone = tasks.multiview(ask("a pink cube"))
    assert (alone.steps, alone.warnings, alone.arguments) == (one_grid(GRID), (), {"front": None})
    assert alone.outputs[0].content == "a full turn of a pink cube"
    assert alone.outputs[0].prompt == f"{LAYOUT} a full turn of a pink cube"
    seen = tasks.multiview(ask("a pink cube"), front=pictures[0])
    assert seen.steps == one_grid(GRID, {0})
    assert shows(seen, 0, pictures[0])
    assert len(seen.warnings) == 1


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a cube making a turn", "a cube making a turn"),
        ("turn of a cube", "turn of a cube"),
        ("a saturn rocket", "a full turn of a saturn rocket"),  # no word of its own
        ("a turnip", "a full turn of a turnip"),
    ],
)
def test_a_prompt_that_asks_for_a_turn_stays(ask: Make, prompt: str, asked: str) -> None:
    assert tasks.multiview(ask(prompt)).outputs[0].content == asked


def test_a_layout_that_asks_for_a_turn_is_enough(make_profile: Make, ask: Make) -> None:
    profile = make_profile(model__adapter="none", caption__layout="turn")
    assert tasks.multiview(ask("a cube", profile=profile)).outputs[0].content == "a cube"


def test_extending_adds_a_grid_or_as_asked(ask: Make, tmp_path: Path) -> None:
    source = red_circle(4)
    write_clip(source, tmp_path / "four.webp", fps=5)
    job = tasks.extend(ask(RED), clip=tmp_path / "four.webp")
    assert (job.num_frames, job.fps) == (4 + 6 - 3, 5.0)
    assert job.steps == windows(7, GRID, finished=4)
    assert np.array_equal([job.references[frame] for frame in range(4)], source)
    assert job.arguments == {"clip": tmp_path / "four.webp", "frames": None}
    assert len(job.warnings) == 1
    more = tasks.extend(ask(RED, fps=3.0), clip=tmp_path / "four.webp", frames=11)
    assert (more.steps, more.fps) == (windows(11, GRID, finished=4), 3.0)
    with pytest.raises(UsageError, match=r"frames is 4, and .*four\.webp has 4; ask for more"):
        tasks.extend(ask(RED), clip=tmp_path / "four.webp", frames=4)
    write_clip(source[:2], tmp_path / "two.webp", fps=5)
    assert tasks.extend(ask(RED), clip=tmp_path / "two.webp").num_frames == 2 + 6 - 2


def test_a_grid_of_one_cell_cannot_go_on(make_profile: Make, ask: Make, tmp_path: Path) -> None:
    profile = make_profile(model__adapter="none", grid__rows=1, grid__cols=1)
    write_clip(red_circle(3), tmp_path / "clip.webp", fps=5)
    with pytest.raises(UsageError, match="the grid has one cell"):
        tasks.t2v(ask(RED, profile=profile), frames=3)
    with pytest.raises(UsageError, match="the grid has one cell"):
        tasks.extend(ask(RED, profile=profile), clip=tmp_path / "clip.webp")


def test_a_whole_clip_is_changed_with_windows(ask: Make, small: Make, clip: Path) -> None:
    request = ask(BLUE, profile=small(pack__sample="windows"))
    edited = tasks.edit(request, clip=clip, source_prompt=RED)
    restored = tasks.restore(request, clip=clip)
    assert edited.steps == edit(10, GRID, 0.9, f"{LAYOUT} {RED}")
    assert restored.steps == restoration(10, GRID, 0.3)
    for job in (edited, restored):
        assert (job.num_frames, job.fps, job.warnings) == (10, 5.0, ())
        assert np.array_equal(list(job.references.values()), red_circle(10))
    assert edited.prompts == (f"{LAYOUT} {BLUE}", f"{LAYOUT} {RED}")
    assert edited.arguments == {"clip": clip, "source_prompt": RED, "frames": None}
    assert restored.arguments == {"clip": clip, "frames": None}


@pytest.mark.parametrize("task", [tasks.edit, tasks.restore])
def test_as_many_frames_of_a_clip_as_asked_for(ask: Make, clip: Path, task: Any) -> None:
    """Spread over the clip, whatever pack.sample says; by default as many as the grid has."""
    job = task(ask(BLUE), clip=clip, frames=8)
    chosen = red_circle(10)[[0, 1, 3, 4, 5, 6, 8, 9]]
    assert np.array_equal(list(job.references.values()), chosen)
    assert (job.num_frames, job.fps, job.arguments["frames"]) == (8, 4.0, 8)
    assert (task(ask(BLUE), clip=clip).num_frames, task(ask(BLUE), clip=clip).fps) == (6, 3.0)
    with pytest.raises(InputError, match="has 10 frames, and 11 are asked for"):
        task(ask(BLUE), clip=clip, frames=11)
    with pytest.raises(UsageError, match="frames is 5, and the grid has 6"):
        task(ask(BLUE), clip=clip, frames=5)


def test_the_profile_says_how_strongly_a_clip_changes(ask: Make, small: Make, clip: Path) -> None:
    profile = small(generate__edit_strength=0.6, generate__restore_strength=0.45)
    request = ask(BLUE, profile=profile)
    assert set(tasks.edit(request, clip=clip).steps[0].plan.release) == {0.6}
    assert set(tasks.restore(request, clip=clip).steps[0].plan.release) == {0.45}
    assert not tasks.edit(
        ask(BLUE, profile=small(generate__fast=True)), clip=clip
    ).profile.generate.fast


def test_what_a_clip_shows_comes_with_it(ask: Make, clip: Path) -> None:
    unknown = tasks.edit(ask(BLUE), clip=clip)
    assert "say it with --source-prompt" in unknown.warnings[0]
    assert unknown.prompts[1] == LAYOUT
    assert tasks.restore(ask(""), clip=clip).outputs[0].content == ""
    clip.with_suffix(".txt").write_text(RED)
    known = tasks.edit(ask(BLUE), clip=clip)
    assert (known.warnings, known.prompts[1]) == ((), f"{LAYOUT} {RED}")
    assert tasks.edit(ask(BLUE), clip=clip, source_prompt="a star").prompts[1].endswith("a star")
    assert "--source-prompt" in tasks.edit(ask(BLUE), clip=clip, source_prompt="").warnings[0]
    assert tasks.restore(ask(""), clip=clip).outputs[0].content == RED
    assert tasks.restore(ask("a star"), clip=clip).outputs[0].content == "a star"


@pytest.mark.parametrize("name", ["drawn.mp4", "drawn.webp", "drawn"])
def test_a_clip_that_gridctl_drew_says_its_prompt(ask: Make, tmp_path: Path, name: str) -> None:
    draw(tasks.t2v(ask(RED, output=name)))
    edited = tasks.edit(ask(BLUE), clip=tmp_path / name)
    assert (edited.warnings, edited.prompts[1]) == ((), f"{LAYOUT} {RED}")


def test_a_source_prompt_is_text(ask: Make, clip: Path) -> None:
    with pytest.raises(UsageError, match=r"'\\udcff' is not UTF-8"):
        tasks.edit(ask(BLUE), clip=clip, source_prompt="\udcff")


def test_an_image_is_the_bases_alone(make_profile: Make, ask: Make) -> None:
    profile = make_profile(
        model__adapter="nowhere", generate__size="64x48", generate__average_max_sigma=0.5
    )
    job = tasks.image(ask("  a \n star", profile=profile, output="a.png"))
    size = Grid(rows=1, cols=1, cell=(64, 48))
    assert (job.adapter, job.grid, job.steps, job.num_frames) == (None, size, one_grid(size), 1)
    assert (job.outputs[0].prompt, job.is_image) == ("a star", True)
    assert (job.profile.generate.average_max_sigma, job.fps) == (0.0, 8.0)
    with pytest.raises(UsageError, match="no checks to choose by"):
        tasks.image(ask("a star", profile=profile, output="a.png", best_of=2))
    with pytest.raises(UsageError, match=r"a\.mp4: an image is written as"):
        tasks.image(ask("a star", profile=profile, output="a.mp4"))


@pytest.mark.parametrize("prompts", [[], [""], ["a star", " \n"]])
def test_an_empty_prompt_is_refused(
    ask: Make, clip: Path, pictures: list[Path], prompts: list[str]
) -> None:
    for task, arguments in [
        (tasks.t2v, {}),
        (tasks.i2v, {"first": pictures[0]}),
        (tasks.multiview, {}),
        (tasks.extend, {"clip": clip}),
        (tasks.edit, {"clip": clip}),
        (tasks.image, {}),
    ]:
        with pytest.raises(UsageError, match="prompt is empty"):
            task(ask(*prompts, output="a.png"), **arguments)  # type: ignore[operator]


def test_settings_of_one_job_leave_the_request(ask: Make, small: Make, clip: Path) -> None:
    """Seeds, best_of and folders are those of the request, whatever the task."""
    request = ask(RED, BLUE, profile=small(generate__seed=4), many=True, best_of=3)
    job = tasks.restore(request, clip=clip)
    assert [output.seed for output in job.outputs] == [4, 5]
    assert job.best_of == 3


def test_words_the_built_in_model_never_learned(
    ask: Make, small: Make, base: Any, clip: Path, tmp_path: Path
) -> None:
    (warning,) = tasks.t2v(ask("a red zebra")).warnings
    assert "never learned zebra" in warning
    (warning,) = tasks.edit(ask(BLUE), clip=clip, source_prompt="a zebra").warnings
    assert "never learned zebra" in warning
    (warning,) = tasks.t2v(ask(RED, profile=small(generate__guidance=7.0))).warnings
    assert "guidance 7 is outside 1 to 5" in warning
    folder = shutil.copytree(base.folder, tmp_path / "model")
    foreign = small(model__base=str(folder), model__adapter="none", generate__guidance=7.0)
    assert tasks.t2v(ask("a red zebra", profile=foreign)).warnings == ()
