import shutil

import pytest

from gridctl.bench.pack import bench_pack, take_turns


def test_every_contestant_is_measured_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.bench.pack.CLIP_SIZE", (320, 192))
    result = bench_pack(clips=1, frames=24, repeats=1)
    own, decoding, *others = result.measurements
    assert own.work == "gridctl pack"
    assert own.ratio == 1
    assert decoding.ratio == pytest.approx(own.seconds / decoding.seconds)
    if shutil.which("ffmpeg"):
        assert len(others) == 1
        assert result.notes == ()
    else:
        assert others == []
        assert "not installed" in result.notes[0]


def test_without_ffmpeg_the_benchmark_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.bench.pack.CLIP_SIZE", (320, 192))
    monkeypatch.setattr("shutil.which", lambda name: None)
    result = bench_pack(clips=1, frames=24, repeats=1)
    assert len(result.measurements) == 2
    assert "ffmpeg is not installed" in result.notes[0]


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    work = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert set(take_turns(work, 3)) == {"a", "b"}
    assert calls == ["a", "b"] * 3
