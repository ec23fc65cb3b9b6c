import os
from collections.abc import Callable
from typing import Any

import pytest

from gridctl.bench.harness import run_python
from gridctl.bench.sizes import TrainSizes
from gridctl.bench.train import bench_train
from gridctl.errors import GridctlError
from tests.bench.sense import assert_makes_sense


def test_step_start_and_cache_are_measured(
    make_profile: Callable[..., Any],
) -> None:
    before = os.environ.get("GRIDCTL_CACHE")
    sizes = TrainSizes(grids=3, cache_rounds=2, batch=2)
    report = bench_train(make_profile(train__preserve_weight=1.0), sizes, repeats=1)
    assert os.environ.get("GRIDCTL_CACHE") == before
    data = report.to_json()
    *_, cache = data["comparisons"]
    assert cache["timings"][0]["seconds"] != cache["timings"][1]["seconds"]
    assert [len(timing["seconds"]) for timing in cache["timings"]] == [2, 2]
    assert_makes_sense({**data, "comparisons": data["comparisons"][:2]}, bench="train", repeats=1)
    targets = [comparison.timings[1].target for comparison in report.comparisons]
    assert targets == [1.05, 1.5, 1.15]
    assert "2 grids of 2x3 cells of 32x32" in report.about


def test_a_candidate_that_fails_is_not_timed() -> None:
    with pytest.raises(GridctlError, match="command failed: ValueError: no such thing"):
        run_python("raise ValueError('no such thing')")
