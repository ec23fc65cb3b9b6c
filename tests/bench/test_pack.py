import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gridctl.bench.harness import Report
from gridctl.bench.pack import bench_pack, growth, make_clip, peak_memory
from gridctl.bench.sizes import QUICK, PackSizes
from tests.bench.sense import assert_makes_sense

SMALL: PackSizes = QUICK[PackSizes]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_every_candidate_is_measured_in_one_run() -> None:
    report = bench_pack(SMALL, repeats=1)
    assert_makes_sense(report.to_json(), bench="pack", repeats=1)
    windows, uniform = report.comparisons
    targets = [timing.target for timing in windows.timings]
    assert targets[:3] == [None, 1.15, 0.70]
    if len(targets) == 3:
        assert any("OpenCV is not installed" in note for note in report.notes)
    assert [timing.target for timing in uniform.timings] == [None, 0.15]


def test_without_ffmpeg_the_benchmark_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    report: Report = bench_pack(SMALL, repeats=1)
    assert [row.name for row in report.comparisons[0].timings][1:] == ["decoding alone"]
    assert "ffmpeg is not installed" in report.notes[0]
    assert_makes_sense(report.to_json(), bench="pack", repeats=1)
    memory, names = report.tables
    (short, short_mb), (long, long_mb) = memory.rows
    assert (short, long) == (2.0, 15.0)
    assert 20 < long_mb < short_mb * 1.3
    assert [row[0] for row in names.rows] == ["list clips", "choose frames", "write metadata"]


def test_growth_compares_the_time_per_clip() -> None:
    linear, quadratic = growth(0.1, 1.0), growth(0.1, 10.0)
    assert (linear, quadratic) == (pytest.approx(1), pytest.approx(10))


def test_peaks_are_in_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 0, SMALL)

    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, stdout="204800\n")  # kilobytes, as Linux has them

    monkeypatch.setattr(subprocess, "run", run)
    assert peak_memory(clip, tmp_path) == (2.0, 200.0)
