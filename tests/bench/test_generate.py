from collections.abc import Callable
from typing import Any

from gridctl.bench.generate import bench_generate
from gridctl.bench.sizes import GenerateSizes
from tests.bench.sense import assert_makes_sense


def test_sampler_second_prompt_and_start_are_measured(
    make_profile: Callable[..., Any], adapter: Any
) -> None:
    profile = make_profile(model__adapter=str(adapter), generate__stochastic_min_sigma=0.0)
    report = bench_generate(profile, GenerateSizes(steps=1), repeats=1)
    assert_makes_sense(report.to_json(), bench="generate", repeats=1)
    assert [comparison.timings[1].target for comparison in report.comparisons] == [1.03, 1.05, 2.2]
    (difference,) = report.tables
    largest, mean = difference.rows[0]
    assert largest <= 1
    assert mean < 0.01
