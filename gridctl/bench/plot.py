"""A report as a chart: a bar for each contestant, with its least and most."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from gridctl.bench.harness import Report
from gridctl.errors import InputError, UsageError
from gridctl.files import atomic_file

_FORMATS = (".png", ".svg", ".pdf")
_LOGARITHMIC = 30  # times between the shortest and the longest bar


def check_plot(path: Path) -> None:
    """Raise UsageError if no chart can be drawn there, before anything is measured."""
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"{path} is no chart; use a name that ends in {', '.join(_FORMATS)}.")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; pip install 'gridctl[plot]'.")


def save_plot(report: Report, path: Path) -> None:
    """Draw all of a report's charts below each other; an existing file is replaced.

    Raises InputError if there are none.
    """
    from matplotlib.figure import Figure  # without pyplot, which has global state

    charts = [chart for chart in report.charts() if chart[2]]
    if not charts:
        raise InputError(f"{report.bench} measured nothing that a chart could show.")
    heights = [1.2 + 0.35 * len(bars) for *_, bars in charts]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    axes = figure.subplots(len(charts), squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, unit, bars) in zip(axes, charts, strict=True):
        values = [bar.value for bar in bars]
        reach = [
            [bar.value - bar.least for bar in bars],
            [bar.most - bar.value for bar in bars],
        ]
        colors = [
            "tab:orange" if k == 0 and unit == "seconds" else "tab:blue" for k in range(len(bars))
        ]
        axis.barh([bar.name for bar in bars], values, xerr=reach, color=colors, capsize=3)
        axis.invert_yaxis()
        axis.set(title=title, xlabel=unit)
        if max(values) > _LOGARITHMIC * min(values) > 0:
            axis.set_xscale("log")
    with atomic_file(path, force=True) as temporary:
        figure.savefig(temporary, dpi=120)
