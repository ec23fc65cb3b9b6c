"""The harness, and the quick run of each benchmark that needs no model."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gridctl.bench.harness import Candidate, Comparison, Report, Table, Timing, compare, save_plot
from gridctl.errors import GridctlError
from tests.bench.sense import assert_makes_sense

Gridctl = Callable[..., int]


def test_candidates_alternate_and_warm_ups_are_dropped() -> None:
    calls: list[str] = []
    seen: list[tuple[int, int]] = []

    def work(name: str, seconds: float) -> float:
        calls.append(name)
        return seconds * len(calls)

    comparison = compare(
        "work",
        [
            Candidate(name="a", work=partial(work, "a", 2.0)),
            Candidate(name="b", work=partial(work, "b", 1.0), target=1.5),
            Candidate(name="slow", work=partial(work, "slow", 1.0), once=True),
        ],
        repeats=2,
        warmups=1,
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert calls == ["a", "b", "a", "b", "slow", "a", "b"]
    assert seen[-1] == (2, 2)
    first, second, slow = comparison.timings
    assert (first.seconds, first.ratios) == ((6.0, 12.0), (1.0, 1.0))
    assert (second.seconds, second.ratios) == ((4.0, 7.0), (6 / 4, 12 / 7))
    assert (slow.seconds, slow.ratios) == ((5.0,), (6 / 5,))
    assert second.target == 1.5


def test_work_that_does_not_measure_itself_is_timed() -> None:
    comparison = compare("sum", [Candidate(name="a", work=lambda: [None][0])], repeats=3)
    (timing,) = comparison.timings
    assert len(timing.seconds) == 3
    assert all(0 < seconds < 10 for seconds in timing.seconds)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_an_error(seconds: float) -> None:
    with pytest.raises(GridctlError, match="impossible"):
        compare("work", [Candidate(name="a", work=lambda: seconds)], repeats=1)


def test_medians_and_ratios_go_pair_by_pair() -> None:
    timing = Timing(name="b", seconds=(1.0, 9.0, 2.0), ratios=(2.0, 1.0, 9.0))
    assert (timing.median, timing.ratio) == (2.0, 2.0)


def test_a_report_has_medians_and_extremes() -> None:
    timings = (
        Timing(name="ours", seconds=(1.0, 9.0, 2.0), ratios=(1.0, 1.0, 1.0)),
        Timing(name="bare", seconds=(4.0, 3.0, 8.0), ratios=(0.25, 3.0, 0.25), target=1.5),
    )
    table = Table(
        title="shares", columns=("part", "low", "mid", "high"), rows=(("a", 1, 4, 9),),
        bar="mid", spread=("low", "high"),
    )  # fmt: skip
    report = Report(
        bench="any",
        about="",
        comparisons=(Comparison(title="work", timings=timings),),
        tables=(table,),
        machine={"cores": "2"},
    )
    data = report.to_json()
    (comparison,) = data["comparisons"]
    figures = [
        [timing[key] for key in ("median", "min", "max", "ratio")]
        for timing in comparison["timings"]
    ]
    assert figures == [[2, 1, 9, 1], [4, 3, 8, 0.25]]
    assert data["tables"][0]["rows"] == [{"part": "a", "low": 1, "mid": 4, "high": 9}]
    assert data["machine"] == {"cores": "2"}
    (_, unit, seconds), (_, column, shares) = report.charts()
    assert (unit, column) == ("seconds", "mid")
    assert [(bar.name, bar.value, bar.least, bar.most) for bar in (*seconds, *shares)] == [
        ("ours", 2, 1, 9),
        ("bare", 4, 3, 8),
        ("a", 4, 1, 9),
    ]


def test_a_chart_has_a_bar_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(
        bench="any",
        about="",
        comparisons=(
            compare(
                "work",
                [
                    Candidate(name="a", work=lambda: 1.0),
                    Candidate(name="b", work=lambda: 100.0),
                ],
                repeats=1,
            ),
        ),
        tables=(
            Table(
                title="memory",
                columns=("card", "rank", "base", "GiB"),
                rows=(("a", 1, 1.5, 2.0), ("a", 2, 1.5, 3.0), ("b", 2, 1.5, None)),
                bar="GiB",
                labels=2,
            ),
            Table(title="words", columns=("x",), rows=(("no bars",),)),
        ),
    )
    charts = list(report.charts())
    assert [(title, unit, len(bars)) for title, unit, bars in charts] == [
        ("work", "seconds", 2),
        ("memory", "GiB", 2),
    ]
    assert [bar.name for bar in charts[1][2]] == ["a, 1", "a, 2"]
    path = tmp_path / "chart.png"
    scales: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_xscale", lambda _, scale: scales.append(scale))
    save_plot(report, path)
    assert scales == ["log"]  # the seconds differ by a factor of 100
    first = path.read_bytes()
    assert min(Image.open(path).size) > 300
    save_plot(report, path)  # replaced, not refused
    assert path.read_bytes() == first


def test_a_quick_run_gives_json_and_a_chart(gridctl: Gridctl, tmp_path: Path, capsys: Any) -> None:
    chart = tmp_path / "chart.svg"
    assert gridctl("bench", "startup", "--quick", "--json", "--plot", chart) == 0
    out, err = capsys.readouterr()
    assert_makes_sense(json.loads(out), bench="startup", repeats=2)
    assert err == f"chart: {chart}\n"
    assert "<svg" in chart.read_text()


def test_a_report_is_a_table(gridctl: Gridctl, capsys: Any) -> None:
    flags = ("--quick", "--repeats", "1", "--grids", "4", "--answer-seconds", "0.01")
    assert gridctl("bench", "caption", *flags) == 0
    out, _ = capsys.readouterr()
    for text in ("4 grids", "Python", "median s", "gridctl caption", "answers alone", "1.20"):
        assert text in out


def test_a_chart_that_cannot_be_drawn_is_refused_first(gridctl: Gridctl, capsys: Any) -> None:
    assert gridctl("bench", "startup", "--plot", "chart.txt") == 2
    assert "chart.txt is not a chart" in capsys.readouterr().err


def test_an_unknown_video_model_is_named(gridctl: Gridctl, capsys: Any) -> None:
    assert gridctl("bench", "generate", "--against", "wan,sora") == 2
    assert "--against has no 'sora'; choose wan, ltx." in capsys.readouterr().err
