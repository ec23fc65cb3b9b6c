from pathlib import Path

import pytest

from gridctl.bench.caption import GRID, bench_caption, make_grids
from gridctl.bench.sizes import CaptionSizes
from gridctl.dataset.folder import list_grids
from gridctl.dataset.grid_image import load_grid
from tests.bench.sense import assert_makes_sense


def test_every_round_captions_all_grids(capfd: pytest.CaptureFixture[str]) -> None:
    sizes = CaptionSizes(grids=12, answer_seconds=0.02, concurrency=4)
    report = bench_caption(sizes, repeats=2)
    assert_makes_sense(report.to_json(), bench="caption", repeats=2)
    ours, alone = report.comparisons[0].timings
    # Each answer results 0.02 s, four at a time: nothing that did the work is faster.
    assert min(ours.seconds) > 12 / 4 * 0.02
    assert min(alone.seconds) > 12 / 4 * 0.02
    assert (alone.target, "12 grids" in report.about) == (1.2, True)
    assert capfd.readouterr().err == ""


def test_the_grids_are_whole_however_many(tmp_path: Path) -> None:
    make_grids(tmp_path, 10)
    assert len(list_grids(tmp_path)) == 10
    picture, metadata = load_grid(tmp_path / "vid9.jpg")
    assert metadata is not None
    assert metadata.grid == GRID
    assert picture.shape == (1024, 1536, 3)
