from gridctl.bench.startup import bench_startup


def test_help_starts_as_fast_as_a_bare_app() -> None:
    for page in bench_startup(repeats=5):
        assert page.bare_seconds > 0
        assert page.ratio <= 1.5, page
