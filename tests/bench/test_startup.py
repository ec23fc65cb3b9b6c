from gridctl.bench.startup import StartupBench, bench_startup


def test_each_help_page_is_measured_beside_its_bare_twin() -> None:
    pages = bench_startup(repeats=1)
    assert [page.arguments for page in pages] == ["--help", "pack --help"]
    # Both start Python and import Typer and rich: neither can be ten times the other.
    assert all(0.1 < page.ratio < 10 for page in pages)


def test_the_ratio_is_gridctls_time_over_the_bare_apps() -> None:
    page = StartupBench(arguments="--help", gridctl_seconds=3.0, bare_seconds=2.0)
    assert page.ratio == 1.5
