from gridctl.bench.startup import bench_startup


def test_each_help_page_has_a_bare_twin() -> None:
    report = bench_startup(repeats=1)
    assert [comparison.title for comparison in report.comparisons] == ["--help", "pack --help"]
    for comparison in report.comparisons:
        ours, bare = comparison.timings
        assert bare.target == 1.5
        # Both start Python and import Typer and rich: neither can be ten times the other.
        assert 0.1 < bare.ratio < 10
        assert ours.ratio == 1
