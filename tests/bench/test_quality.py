import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridctl.bench.quality import (
    PARTS,
    Case,
    Figure,
    PartResults,
    QualityResult,
    Result,
    Score,
    bench_quality,
    judge_case,
    make_cases,
)
from gridctl.bench.quality.score import ratio_of_sums
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.tiny.render import render_clip, render_frame
from gridctl.tiny.scene import Scene, is_held_out
from tests.bench.sense import assert_makes_sense

Make = Callable[..., Any]
COUNT = 6


def drawn(case: Case, scene: Scene) -> Any:
    """A true render of `scene`, as what a case's part draws."""
    if case.is_still:
        return render_frame(scene, 0.5, (64, 64))[None]
    return render_clip(scene, 24, (64, 64))


@pytest.mark.parametrize(
    ("part", "own"), [("t2v", {"motion", "style"}), ("turn", {"turn order"}), ("image", {"style"})]
)
def test_true_renders_are_all_right_and_those_of_other_prompts_are_not(
    part: Any, own: set[str]
) -> None:
    cases = make_cases(part, COUNT, 0)
    others = [*cases[1:], cases[0]]
    for case, other in zip(cases, others, strict=True):
        right = judge_case(case, drawn(case, case.scene), seed=0).right
        assert set(right) == {"shape", "color", "background", "all", *own}
        assert all(right.values())
        assert not judge_case(case, drawn(case, other.scene), seed=0).right["all"]


@pytest.mark.parametrize("part", ["i2v", "interpolate", "multiview", "edit", "restore"])
def test_a_perfect_drawing_scores_in_full(part: Any) -> None:
    for case in make_cases(part, COUNT, 0):
        result = judge_case(case, case.truth(24, (64, 64)), seed=0)
        assert all(result.right.values())
        for what, (drawn, true) in result.measures.items():
            if what.startswith("jump"):
                assert drawn == true
            else:  # nothing is left of what was to go
                assert drawn < 0.5 * true


@pytest.mark.parametrize(("part", "cut_at"), [("long windows", 44), ("long keyframes", 64)])
def test_a_long_clip_is_judged_by_its_end_and_its_seams(part: Any, cut_at: int) -> None:
    (case,) = make_cases(part, 1, 0)
    smooth = case.truth(96, (64, 64))
    result = judge_case(case, smooth, seed=0)
    assert all(result.right.values())
    (seam, usual) = result.measures["jump at a seam, beside other steps"]
    assert 0.5 * usual < seam < 1.5 * usual
    cut = smooth.copy()
    cut[cut_at : cut_at + 12] = 255 - cut[cut_at : cut_at + 12]  # where another grid begins
    result = judge_case(case, cut, seed=0)
    (seam, usual) = result.measures["jump at a seam, beside other steps"]
    assert seam > 3 * usual


def test_a_jump_at_the_end_of_a_row_is_seen() -> None:
    grid = Grid(rows=4, cols=6, cell=(64, 64))
    (case,) = make_cases("t2v", 1, 0)
    frames = case.truth(24, grid.cell)
    what = "jump at a row's end, beside other steps"
    wrap, usual = judge_case(case, frames, seed=0, grid=grid).measures[what]
    assert 0.5 * usual < wrap < 1.5 * usual
    frames[6:12] = 255 - frames[6:12]
    wrap, usual = judge_case(case, frames, seed=0, grid=grid).measures[what]
    assert wrap > 5 * usual


def test_a_decoded_neighbour_sets_the_floor_of_a_jump() -> None:
    (case,) = make_cases("vae", 1, 0)
    decoded = case.truth(24, (64, 64))
    decoded[1:] = decoded[1:] // 2 + 60
    drawn, true = judge_case(case, decoded, seed=0).measures["jump from the first frame"]
    truth = case.truth(24, (64, 64)).astype(float)
    assert true == np.abs(truth[1] - truth[0]).mean()
    assert drawn == np.abs(decoded[1] - truth[0]).mean() > true


def test_a_ratio_of_sums_counts_clips_that_stand_still() -> None:
    pairs = [(2.0, 1.0), (3.0, 2.0), (1.0, 0.0)] * 10
    figure = Figure.of(pairs, ratio_of_sums)
    assert figure.value == 2.0
    assert 1.5 < figure.low < 2.0 < figure.high < 3.5
    assert figure == Figure.of(pairs, ratio_of_sums)
    assert np.isnan(ratio_of_sums(np.array([(1.0, 0.0)])))


def test_clips_that_all_stand_still_have_no_ratio(tmp_path: Path) -> None:
    results = PartResults(tmp_path, "i2v")
    frames = render_frame(make_cases("image", 1, 0)[0].scene, 0.5, (32, 32))[None]
    results.add(
        Result(part="i2v", index=0, prompt="", seed=0, measures={"jump": (1.0, 0.0)}), frames
    )
    assert results.figures() == {}


@pytest.mark.parametrize("part", ["edit", "restore"])
def test_a_clip_that_comes_back_as_it_was_has_changed_nothing(part: Any) -> None:
    for case in make_cases(part, COUNT, 0):
        result = judge_case(case, case.given(24, (64, 64)), seed=0)
        if part == "edit":
            changed, kept = result.right.values()
            assert (changed, kept) == (False, True)
        else:
            (pair,) = result.measures.values()
            assert pair[0] == pair[1] > 10


@pytest.mark.parametrize("part", PARTS)
def test_no_prompt_is_of_what_training_saw(part: Any) -> None:
    cases = make_cases(part, 20, 5)
    assert all(is_held_out(case.source or case.scene) for case in cases)
    kind = "solid" if part in ("turn", "multiview") else "shape"
    assert {case.scene.kind for case in cases} == {kind}
    assert len({case.prompt for case in cases}) > 15
    assert make_cases(part, 4, 5) == cases[:4]


def test_the_real_path_leaves_a_report_with_pictures(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "quality"
    profile = make_profile(
        model__adapter=str(adapter), generate__steps=1, generate__size="64x64", generate__seed=3
    )
    parts = ("t2v", "image", "vae", "i2v", "edit")
    result = bench_quality(profile, folder, count=2, parts=parts)
    assert {score.part for score in result.scores} == set(parts) - {"vae"}
    assert result.figures["vae PSNR dB"].value > 25
    report = json.loads((folder / "quality.json").read_text())
    assert_makes_sense(report, bench="quality", repeats=1)
    scores, figures = (table["rows"] for table in report["tables"])
    assert [(row["part"], row["what"]) for row in scores] == [
        (score.part, score.what) for score in result.scores
    ]
    assert {row["figure"] for row in figures} == set(result.figures)
    assert all(row["from %"] <= row["right %"] <= row["to %"] for row in scores)
    assert "seed 3" in report["about"]
    assert "true_cfg_scale 1.0 up to sigma 1.0" in report["about"]
    assert "stochastic above sigma 1.0" in report["about"]
    results = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for score in result.scores:
        mine = [result for result in results if result["part"] == score.part]
        assert len(mine) == len({result["prompt"] for result in mine}) == 2
        asked = [result["right"][score.what] for result in mine if score.what in result["right"]]
        assert (sum(asked), len(asked)) == (score.right, score.count)
        assert all("color" in result["read"] for result in mine)
    assert len(results) == 2 * len(parts)
    sheet = Image.open(folder / "t2v-first.png")
    assert sheet.height == 2 * (32 + 2)
    assert len(list((folder / "t2v-worst").glob("*.mp4"))) == 2


def test_a_stopped_run_resumes_where_it_was(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    profile = make_profile(model__adapter=str(adapter), generate__steps=1, generate__size="64x64")
    parts: Any = ("image", "vae")
    whole = bench_quality(profile, tmp_path / "whole", count=3, parts=parts)
    folder, seen = tmp_path / "stopped", []

    def stop(done: int, total: int, text: str) -> None:
        seen.append(done)
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_quality(profile, folder, count=3, parts=parts, progress=stop)
    lines = (folder / "results.jsonl").read_text()
    assert lines.count("\n") == 4
    with (folder / "results.jsonl").open("a") as file:
        file.write('{"part": "vae", "ind')  # killed while it wrote
    seen.clear()
    resumed = bench_quality(
        profile, folder, count=3, parts=parts, progress=lambda done, *_: seen.append(done)
    )
    assert seen == [3, 4, 5, 6]
    assert (folder / "results.jsonl").read_text().startswith(lines)
    assert (resumed.scores, resumed.figures) == (whole.scores, whole.figures)
    for path in (tmp_path / "whole").rglob("*.png"):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path / "whole")).read_bytes()
    more = bench_quality(profile, folder, count=4, parts=parts)
    assert {score.count for score in more.scores} == {4}
    with pytest.raises(UsageError, match="has 4 prompts of image"):
        bench_quality(profile, folder, count=3, parts=parts)
    other = make_profile(
        model__adapter=str(adapter), generate__steps=2, generate__size="64x64", generate__seed=1
    )
    with pytest.raises(InputError, match=r"generate.steps = 1 \(now 2\), generate.seed = 0"):
        bench_quality(other, folder, count=4, parts=parts)
    (folder / "mine.txt").touch()
    again = bench_quality(other, folder, count=3, parts=parts, force=True)
    assert {score.count for score in again.scores} == {3}
    assert (folder / "mine.txt").exists()


def test_a_report_is_shown_as_those_of_other_benchmarks(
    gridctl: Callable[..., int], adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--adapter", adapter, "--steps", 1, "--count", 1, "--only", "image", "--only", "vae"]
    command = ["bench", "quality", *flags, "-o", tmp_path / "quality"]
    chart = tmp_path / "chart.png"
    assert gridctl(*command, "--plot", tmp_path / "chart.txt") == 2  # before anything is drawn
    assert not (tmp_path / "quality").exists()
    assert gridctl(*command, "--plot", chart, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert_makes_sense(report, bench="quality", repeats=1)
    assert Image.open(chart).width > 500
    assert gridctl(*command) == 0  # nothing is drawn again
    out = capsys.readouterr().out
    assert f"Python {report['machine']['Python']}" in out
    assert out.splitlines()[-1] == str(tmp_path / "quality")


def test_the_interval_of_a_share_is_its_spread_in_a_chart(tmp_path: Path) -> None:
    score = Score(part="t2v", what="shape", right=95, count=100)
    result = QualityResult(about="", scores=(score,), figures={}, folder=tmp_path)
    ((_, unit, (bar,)),) = result.report().charts()
    assert (bar.name, unit) == ("t2v, shape", "right %")
    assert (bar.value, bar.least, bar.most) == (95.0, 88.8, 97.8)


def test_the_worst_takes_keep_their_frames_however_many_come(tmp_path: Path) -> None:
    results = PartResults(tmp_path, "image")
    frames = render_frame(make_cases("image", 1, 0)[0].scene, 0.5, (32, 32))[None]
    for index in range(40):
        wrong = index % 3 == 0
        result = Result(
            part="image", index=index, prompt="", seed=0, right={"all": not wrong},
            temporal_error=float(index),
        )  # fmt: skip
        results.add(result, frames)
    stored = {int(path.stem) for path in (tmp_path / "frames" / "image").iterdir()}
    assert stored == {*range(12), 12, 15, 18, 21, 24, 27, 30, 33, 36, 39}
    assert PartResults(tmp_path, "image").scores() == results.scores()
    results.show()
    assert Image.open(tmp_path / "image-worst.png").height == 12 * 34


def test_a_folder_of_something_else_is_left_alone(make_profile: Make, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="not a folder of bench quality"):
        bench_quality(make_profile(), tmp_path, count=1, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_wilsons_interval() -> None:
    score = Score(part="t2v", what="shape", right=95, count=100)
    assert score.interval == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert Score(part="t2v", what="shape", right=0, count=10).interval[0] == 0
    assert Score(part="t2v", what="shape", right=10, count=10).interval[1] == 1
    at_limit = Score(part="t2v", what="all", right=468, count=550)
    low, high = at_limit.interval
    assert high - low < 0.06


def test_a_count_of_none_is_refused(make_profile: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench_quality(make_profile(), tmp_path / "quality", count=0)
    assert not (tmp_path / "quality").exists()
