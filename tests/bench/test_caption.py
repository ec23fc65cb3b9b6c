from pathlib import Path

import pytest

from gridctl.bench.caption import GRID, bench_caption, make_grids
from gridctl.media.dataset import list_grids
from gridctl.media.grid_image import load_grid


def test_all_grids_are_captioned_and_the_ideal_is_what_the_server_sleeps(
    capfd: pytest.CaptureFixture[str],
) -> None:
    result = bench_caption(grids=12, answer_seconds=0.02, concurrency=4)
    assert result.ideal_seconds == pytest.approx(0.06)
    assert result.ratio == result.seconds / result.ideal_seconds
    assert result.ratio > 1  # nobody is faster than the server
    assert "12 grids" in result.about
    assert capfd.readouterr().err == ""


def test_the_grids_are_whole_however_many(tmp_path: Path) -> None:
    make_grids(tmp_path, 10)
    assert len(list_grids(tmp_path)) == 10
    picture, facts = load_grid(tmp_path / "vid9.jpg")
    assert facts is not None
    assert facts.grid == GRID
    assert picture.shape == (1024, 1536, 3)
