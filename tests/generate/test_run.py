"""Drawing jobs: what is skipped, drawn, written and reported."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridctl.errors import GridctlError, InputError
from gridctl.generate import GenerateResult, Job, Output, draw, draw_stream, render, tasks
from gridctl.generate import pipeline as pipeline_module
from gridctl.generate.checks import Check, Checks
from gridctl.media.images import Frames
from gridctl.media.record import read_record
from gridctl.models.base import BaseModel
from tests.generate.clips import BLUE, RED, frames_of

Make = Callable[..., Any]


def test_finished_outputs_are_skipped(ask: Make) -> None:
    """The rest is drawn as it would have been."""
    job = tasks.t2v(ask(RED, "a star", output="clips", many=True))
    first, second = draw(job).written
    before = second.read_bytes()
    second.unlink()
    again = draw(job)
    assert (again.written, again.skipped) == ((second,), (first,))
    assert second.read_bytes() == before
    assert first.read_bytes() != before
    assert draw(job).skipped == (first, second)


@pytest.mark.parametrize("many", [False, True])
def test_what_was_made_otherwise_is_not_overwritten(
    ask: Make, small: Make, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    output = "clips" if many else "a.gif"
    job = tasks.t2v(ask(RED, output=output, many=many))
    (path,) = draw(job).written
    assert draw(job).skipped == (path,)
    other = tasks.t2v(ask(RED, output=output, many=many, profile=small(generate__seed=99)))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_module, "load_pipeline", None)  # nothing is loaded for that
        with pytest.raises(InputError, match="--force"):
            draw(other)
    assert path.read_bytes() == before
    assert draw(other, force=True).written == (path,)
    assert path.read_bytes() != before
    path.write_bytes(b"precious")  # somebody else's
    with pytest.raises(InputError, match="--force"):
        draw(job)


def test_a_folder_that_cannot_be_written_is_refused_first(
    ask: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(BaseModel, "load_transformer", None)
    with pytest.raises(GridctlError, match="file"):
        draw(tasks.t2v(ask(RED, output="file/a.gif")))


def test_progress_counts_the_steps_of_all_clips(ask: Make, small: Make) -> None:
    reported: list[tuple[int, int, str]] = []
    two = tasks.t2v(ask(RED, "a star", output="clips", many=True))
    three = tasks.t2v(ask(BLUE, output="b.gif", profile=small(generate__steps=3)))
    draw([two, three], progress=lambda *state: reported.append(state))
    assert reported == [
        (0, 5, "loading the model"),
        *((step, 5, "sampling") for step in range(1, 6)),
    ]


def test_a_stream_draws_while_jobs_come(ask: Make, tmp_path: Path) -> None:
    """Groups are drawn in turn, each before the next is asked for."""
    (tmp_path / "taken.gif").write_bytes(b"somebody else's")
    seen: list[list[str]] = []

    def groups() -> Any:
        for names in (["a.gif", "taken.gif"], [], ["b.gif"]):
            seen.append(sorted(path.name for path in tmp_path.glob("?.gif")))
            yield [tasks.t2v(ask(RED, output=name)) for name in names]

    failed: list[tuple[Job, GridctlError]] = []
    results = list(draw_stream(groups(), on_error=lambda *fault: failed.append(fault)))
    assert [result.path.name for result in results] == ["a.gif", "b.gif"]
    assert seen == [[], ["a.gif"], ["a.gif"]]
    ((job, error),) = failed
    assert job.outputs[0].path.name in str(error)
    with pytest.raises(InputError, match=r"taken\.gif exists"):
        list(draw_stream([[tasks.t2v(ask(RED, output="taken.gif"))]]))


def test_several_jobs_are_rendered_with_one_model(
    ask: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load = pipeline_module.load_pipeline

    def spy(*arguments: Any) -> Any:
        loads.append(1)
        return load(*arguments)

    monkeypatch.setattr(pipeline_module, "load_pipeline", spy)
    jobs = [tasks.t2v(ask(RED)), tasks.t2v(ask(BLUE))]
    (first, red), (second, blue) = render(jobs)
    assert (first, second) == (jobs[0].outputs[0], jobs[1].outputs[0])
    assert not np.array_equal(red, blue)
    assert len(loads) == 1


def test_a_warning_is_given_once(ask: Make, small: Make) -> None:
    """With the first output that it is about, also if that one is skipped."""
    jobs = [
        tasks.t2v(ask("a red zebra", "a blue zebra", output="clips", many=True)),
        tasks.t2v(ask("a red zebra", output="a.gif")),
        tasks.t2v(ask("a red unicorn", output="b.gif")),
    ]
    first, second, third, fourth = draw_stream([jobs])
    (zebra,) = first.warnings
    assert "never learned zebra" in zebra
    assert (second.warnings, third.warnings) == ((), ())
    assert "never learned unicorn" in fourth.warnings[0]
    assert GenerateResult.collect([first, fourth]).warnings == first.warnings + fourth.warnings
    assert draw(jobs).warnings == ()  # nothing is drawn
    rounded = small(generate__compile=True)
    again = [tasks.t2v(ask("a red zebra", output=name, profile=rounded)) for name in ("a.gif",) * 2]
    once, twice = draw_stream([again])
    assert "another generate.compile are kept" in once.warnings[0]
    assert twice.warnings == ()


def test_limits_of_checks_are_the_built_in_models(
    make_profile: Make, base: BaseModel, ask: Make, tmp_path: Path
) -> None:
    """On another base a check that fails is a hint, and a warning says so."""
    own = {"model__adapter": "none", "generate__steps": 1}
    tiny = draw(tasks.t2v(ask(RED, output="a.gif", profile=make_profile(**own))))
    assert tiny.checks[tmp_path / "a.gif"].failed  # one step draws no steady clip
    assert tiny.warnings == ()
    foreign = make_profile(model__base=str(base.folder), **own)
    result = draw(tasks.t2v(ask(RED, BLUE, output="clips", many=True, profile=foreign)))
    (warning,) = result.warnings
    assert warning.startswith("the limits of the self-checks were measured on the built-in model")
    assert str(base.folder) in warning


def scored(monkeypatch: pytest.MonkeyPatch, values: dict[int, tuple[float, float]]) -> list[int]:
    """Make each seed draw frames full of it, with these checks: (flat, row). Returns the seeds."""
    drawn: list[int] = []

    def draw_clip(_: Any, job: Job, output: Output, *, on_step: Any) -> tuple[Frames, list[Any]]:
        drawn.append(output.seed)
        return np.full((6, 32, 32, 3), output.seed, np.uint8), []

    def check_clip(frames: Frames, grids: Any) -> Checks:
        flat, row = values[int(frames[0, 0, 0, 0])]
        checks = Check(name="flat", value=flat), Check(name="row", value=row)
        return Checks(checks=checks)

    monkeypatch.setattr(pipeline_module, "draw_clip", draw_clip)
    monkeypatch.setattr("gridctl.generate.checks.check_clip", check_clip)
    return drawn


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ({5: (0.1, 1.0), 6: (0.7, 0.1), 7: (0.9, 0.0)}, 5),  # shares 0.46, 0.91; 7 has a fault
        ({5: (0.9, 9.0), 6: (0.9, 0.0), 7: (0.1, 4.0)}, 6),  # two faults, one, one
        ({5: (0.1, 1.0), 6: (0.1, 1.0), 7: (0.2, 1.0)}, 5),  # the first of equals
    ],
)
def test_best_of_keeps_the_seed_with_the_best_checks(
    ask: Make,
    small: Make,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[int, tuple[float, float]],
    best: int,
) -> None:
    drawn = scored(monkeypatch, values)
    job = tasks.t2v(ask(RED, profile=small(generate__seed=5), best_of=3))
    result = draw(job)
    (folder,) = result.written
    assert drawn == [5, 6, 7]
    assert (frames_of(folder) == best).all()
    record = read_record(folder) or {}
    assert (record["seed"], record["best_of"]) == (best, 3)
    assert [check.value for check in result.checks[folder].checks] == list(values[best])
    assert draw(job).skipped == (folder,)  # the seed that won counts as asked for


def test_the_arrays_of_a_job_are_not_changed(ask: Make, small: Make, clip: Path) -> None:
    """Jobs can be drawn again, and share given frames."""
    job = tasks.restore(ask(RED, profile=small(pack__sample="windows")), clip=clip)
    before = {frame: picture.copy() for frame, picture in job.references.items()}
    (_, once), (_, twice) = render([job, replace(job)])
    assert all(np.array_equal(job.references[frame], before[frame]) for frame in before)
    assert np.array_equal(once, twice)
