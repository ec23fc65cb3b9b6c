"""Whole runs on the built-in model, their folder and their report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gridctl.bench.quality import (
    PartResults,
    QualityResult,
    Result,
    Score,
    bench_quality,
    make_cases,
)
from gridctl.errors import InputError, UsageError
from gridctl.tiny.render import render_frame
from tests.bench.sense import assert_makes_sense

Make = Callable[..., Any]
COUNT = 6


def test_clips_that_all_stand_still_have_no_ratio(tmp_path: Path) -> None:
    results = PartResults(tmp_path, "i2v")
    frames = render_frame(make_cases("image", 1, 0)[0].scene, 0.5, (32, 32))[None]
    results.add(
        Result(part="i2v", index=0, prompt="", seed=0, measures={"jump": (1.0, 0.0)}), frames
    )
    assert results.figures() == {}


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
        assert [result["seed"] for result in mine] == [3, 4]
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


def test_the_command_prints_a_report(
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


def test_a_chart_shows_the_interval_of_a_share(tmp_path: Path) -> None:
    score = Score(part="t2v", what="shape", right=95, count=100)
    result = QualityResult(about="", scores=(score,), figures={}, folder=tmp_path)
    ((_, unit, (bar,)),) = result.report().charts()
    assert (bar.name, unit) == ("t2v, shape", "right %")
    assert (bar.value, bar.least, bar.most) == (95.0, 88.8, 97.8)


def test_the_worst_results_keep_their_frames(tmp_path: Path) -> None:
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


def test_figures_by_hand(tmp_path: Path) -> None:
    results = PartResults(tmp_path, "i2v")
    frames = render_frame(make_cases("image", 1, 0)[0].scene, 0.5, (32, 32))[None]
    values = [(1.0, 30.0, (2.0, 1.0)), (2.0, 40.0, (1.0, 1.0)), (9.0, 50.0, (9.0, 2.0))]
    for index, (error, psnr, jump) in enumerate(values):
        result = Result(
            part="i2v", index=index, prompt="", seed=0, right={"shape": index > 0, "all": False},
            temporal_error=error, psnr_db=psnr, measures={"jump": jump},
        )  # fmt: skip
        results.add(result, frames)
    assert {name: figure.value for name, figure in results.figures().items()} == {
        "i2v PSNR dB": 40,
        "i2v temporal error": 2,  # the median
        "i2v jump, ratio": 3,  # 12 / 4
    }
    scores = [(score.what, score.right, score.count, score.rate) for score in results.scores()]
    assert scores == [("shape", 2, 3, 2 / 3), ("all", 0, 3, 0)]
    assert PartResults(tmp_path, "t2v").scores() == []


def test_a_folder_of_something_else_is_left_alone(make_profile: Make, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="not a folder of bench quality"):
        bench_quality(make_profile(), tmp_path, count=1, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_count_of_none_is_refused(make_profile: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench_quality(make_profile(), tmp_path / "quality", count=0)
    assert not (tmp_path / "quality").exists()
