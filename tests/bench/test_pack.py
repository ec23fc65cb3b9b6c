import shutil

import pytest

from gridctl.bench.names import NamesRow
from gridctl.bench.pack import PackBench, bench_pack, take_turns


def small(monkeypatch: pytest.MonkeyPatch) -> PackBench:
    monkeypatch.setattr("gridctl.bench.pack.CLIP_SIZE", (320, 192))
    return bench_pack(clips=1, frames=24, minutes=0.25, repeats=1, names=200)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_every_contestant_is_measured_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    result = small(monkeypatch)
    own, decoding, ffmpeg, *others = result.windows
    assert (own.ratio, own.limit) == (1, None)
    assert decoding.ratio == pytest.approx(own.seconds / decoding.seconds)
    assert (decoding.limit, ffmpeg.limit) == (1.15, 0.70)
    if others:
        assert [row.limit for row in others] == [0.25]
    else:
        assert "OpenCV is not installed" in result.notes[0]
    assert [row.limit for row in result.uniform] == [None, 0.15]
    short, long = result.memory
    assert (short.clip_seconds, long.clip_seconds) == (1.0, 15.0)
    assert long.megabytes < short.megabytes * 1.3
    assert [(row.work, row.clips) for row in result.names] == [
        ("list clips", 200),
        ("choose frames", 200),
        ("write metadata", 200),
    ]


def test_without_ffmpeg_the_benchmark_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    result = small(monkeypatch)
    assert [row.work for row in result.windows][1:] == ["decoding alone"]
    assert "ffmpeg is not installed" in result.notes[0]


def test_growth_compares_the_time_per_clip() -> None:
    linear = NamesRow(work="list clips", clips=100, seconds_for_a_tenth=0.1, seconds=1.0)
    quadratic = NamesRow(work="list clips", clips=100, seconds_for_a_tenth=0.1, seconds=10.0)
    assert (linear.growth, quadratic.growth) == (pytest.approx(1), pytest.approx(10))


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    seen: list[tuple[int, int]] = []
    work = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = take_turns(work, 3, lambda done, total, text: seen.append((done, total)))
    assert set(times) == {"a", "b"}
    assert seen[-1] == (3, 3)
    assert calls == ["a", "b"] * 3
