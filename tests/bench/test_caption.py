from pathlib import Path

import pytest

from gridctl.bench.caption import GRID, CaptionBench, bench_caption, make_grids
from gridctl.media.dataset import list_grids
from gridctl.media.grid_image import load_grid


def test_every_grid_is_captioned_and_no_client_beats_the_ideal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    result = bench_caption(grids=12, answer_seconds=0.02, concurrency=4)
    assert result.ideal_seconds == pytest.approx(12 / 4 * 0.02)
    assert result.seconds > result.ideal_seconds
    assert "12 grids" in result.about
    assert capfd.readouterr().err == ""


def test_the_ratio_compares_with_the_ideal() -> None:
    assert CaptionBench(about="", seconds=3.0, ideal_seconds=2.0).ratio == 1.5


def test_the_grids_are_whole_however_many(tmp_path: Path) -> None:
    make_grids(tmp_path, 10)
    assert len(list_grids(tmp_path)) == 10
    picture, facts = load_grid(tmp_path / "vid9.jpg")
    assert facts is not None
    assert facts.grid == GRID
    assert picture.shape == (1024, 1536, 3)
