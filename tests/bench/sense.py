"""Checks of every report; times themselves are never compared with a limit."""

import math
from typing import Any


def assert_makes_sense(report: dict[str, Any], *, bench: str, repeats: int) -> None:
    """Structure, positive finite figures, and ratios that pair with their candidates."""
    assert report["bench"] == bench
    assert report["about"]
    assert {"date", "machine", "cores", "Python", "gridctl", "torch"} <= set(report["machine"])
    assert report["comparisons"] or report["tables"]
    for comparison in report["comparisons"]:
        first = comparison["timings"][0]
        assert first["ratio"] == 1
        assert len({timing["name"] for timing in comparison["timings"]}) == len(
            comparison["timings"]
        )
        for timing in comparison["timings"]:
            seconds, ratios = timing["seconds"], timing["ratios"]
            assert len(seconds) == len(ratios) == (1 if "(once)" in timing["name"] else repeats)
            assert all(math.isfinite(value) and value > 0 for value in seconds)
            assert list(ratios) == [a / b for a, b in zip(first["seconds"], seconds, strict=False)]
            assert timing["min"] <= timing["median"] <= timing["max"]
    for table in report["tables"]:
        assert table["rows"]
        for row in table["rows"]:
            assert list(row) == list(table["columns"])
            numbers = [value for value in row.values() if isinstance(value, int | float)]
            assert all(math.isfinite(value) and value >= 0 for value in numbers)
