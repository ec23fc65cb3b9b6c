"""Names, seeds and formats of outputs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import load_grid, split
from gridctl.errors import InputError, UsageError
from gridctl.generate import tasks
from gridctl.generate.outputs import plan_outputs, write_output
from gridctl.media.record import read_record
from tests.generate.clips import RED, red_circle

Make = Callable[..., Any]
RECORD = '{"gridctl": 1, "task": "t2v"}'


def test_many_prompts_are_files_in_order(ask: Make, small: Make) -> None:
    """Each has a seed of its own."""
    prompts = [RED, RED, "Ein Bär läuft!", "漢字"]
    outputs = plan_outputs(
        ask(*prompts, profile=small(generate__seed=3), many=True), ["whole"] * 4, ".mp4"
    )
    assert [output.path.name for output in outputs] == [
        "001-a-red-circle-moving-right-on-a-black-bac.mp4",
        "002-a-red-circle-moving-right-on-a-black-bac.mp4",
        "003-ein-b-r-l-uft.mp4",
        "004-clip.mp4",
    ]
    assert [output.seed for output in outputs] == [3, 4, 5, 6]
    assert [output.content for output in outputs] == prompts
    assert {output.prompt for output in outputs} == {"whole"}


def test_a_part_of_many_counts_on(ask: Make) -> None:
    some = plan_outputs(ask("a", "b", many=True, number=99, seeds=(7, 7)), ["a", "b"], ".png")
    assert [(output.path.name, output.seed) for output in some] == [
        ("099-a.png", 7),
        ("100-b.png", 7),
    ]
    thousand = plan_outputs(ask(*["a"] * 1000, many=True), ["a"] * 1000, ".mp4")
    assert thousand[0].path.name == "0001-a.mp4"
    assert plan_outputs(ask("a", many=True, digits=5), ["a"], ".mp4")[0].path.name == "00001-a.mp4"


def test_a_single_output_has_the_name_that_it_was_given(ask: Make, tmp_path: Path) -> None:
    (output,) = plan_outputs(ask("a", output="b.webp"), ["a"], ".mp4")
    assert output.path == tmp_path / "b.webp"


@pytest.mark.parametrize(
    ("task", "name", "options"),
    [
        (tasks.t2v, "a.avi", {}),
        (tasks.image, "a.mp4", {}),
        (tasks.image, "a", {}),
        (tasks.t2v, "out.mp4", {"many": True}),
        (tasks.image, "out.png", {"many": True}),
    ],
)
def test_a_name_that_cannot_be_is_refused(ask: Make, task: Any, name: str, options: Any) -> None:
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        task(ask(RED, output=name, **options))


def test_a_grid_image_holds_one_grid(ask: Make) -> None:
    with pytest.raises(UsageError, match=r"room for 6 frames, and the clip has 7"):
        tasks.t2v(ask(RED, output="a.png"), frames=7)
    tasks.t2v(ask(RED, output="a.webp"), frames=7)


def test_clips_have_their_rate_and_record(ask: Make, tmp_path: Path) -> None:
    frames = red_circle(6)
    for name in ("a.mp4", "a.gif", "frames"):
        job = tasks.t2v(ask(RED, output=name, fps=4.0))
        write_output(job, job.outputs[0], frames, RECORD, force=False)
        assert (read_record(tmp_path / name) or {})["task"] == "t2v"
        with pytest.raises(InputError, match="exists"):
            write_output(job, job.outputs[0], frames, RECORD, force=False)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 32, 32)
        assert (stream.average_rate, len(list(container.decode(stream)))) == (4, 6)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (6, (32, 32), 250)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a.gif", "frames"}


def test_a_png_is_a_grid_image_with_metadata(ask: Make, tmp_path: Path) -> None:
    job, frames = tasks.t2v(ask(RED, output="grid.png", fps=3.0)), red_circle(6)
    write_output(job, job.outputs[0], frames, RECORD, force=False)
    picture, metadata = load_grid(tmp_path / "grid.png")
    assert metadata is not None
    assert (metadata.text, metadata.fps, metadata.num_frames) == (RED, 3.0, 6)
    assert metadata.times_seconds == (0.0, 0.333333, 0.666667, 1.0, 1.333333, 1.666667)
    assert np.array_equal(split(picture, metadata.grid), frames)
    assert read_record(tmp_path / "grid.png") is not None
    silent = replace(job.outputs[0], content="")
    write_output(job, silent, frames, RECORD, force=True)
    assert (load_grid(tmp_path / "grid.png")[1] or metadata).text is None


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_image_is_a_plain_picture(ask: Make, tmp_path: Path, suffix: str) -> None:
    job = tasks.image(ask("a star", output=f"star.{suffix}"))
    picture = np.full((1, 48, 64, 3), (200, 30, 30), np.uint8)
    write_output(job, job.outputs[0], picture, RECORD, force=False)
    loaded, metadata = load_grid(tmp_path / f"star.{suffix}")
    assert (metadata, loaded.shape) == (None, (48, 64, 3))
    assert np.abs(loaded.astype(int) - picture[0]).max() < 8
    assert read_record(tmp_path / f"star.{suffix}") is not None
