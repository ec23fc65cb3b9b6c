from gridctl.bench.startup import bench_startup


def test_each_help_page_is_measured_beside_its_bare_twin() -> None:
    pages = bench_startup(repeats=1)
    assert len(pages) == 2
    for page in pages:
        assert page.gridctl_seconds > 0
        assert page.bare_seconds > 0
        assert page.ratio == page.gridctl_seconds / page.bare_seconds
