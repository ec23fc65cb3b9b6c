"""The harness of all benchmarks: timings in rounds, reports, charts, and runs in a fresh process.

Each round runs gridctl and every baseline once, so that a busy moment of the machine affects all
of them. Ratios are taken within a round, then their median: they say more than seconds.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gridctl import __version__
from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.files import atomic_file
from gridctl.machine.devices import num_cores, nvidia_cards
from gridctl.progress import Progress, silent

_PACKAGES = (
    "torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes", "torchao", "av",
    "pillow", "numpy", "typer",
)  # fmt: skip


_CHART_FORMATS = (".png", ".svg", ".pdf")
_LOGARITHMIC = 30  # times between the shortest and the longest bar


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """gridctl or a baseline. `work` returns seconds if it measures itself, else None.

    `target` of a baseline: gridctl should take at most this many times as long. `once` is for work
    of minutes that differs by far more than noise.
    """

    name: str
    work: Callable[[], float | None]
    target: float | None = None
    once: bool = False


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A candidate's seconds in each round, and gridctl's time over its own."""

    name: str
    seconds: tuple[float, ...]
    ratios: tuple[float, ...]
    target: float | None = None

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """The median of the ratios of each round."""
        return statistics.median(self.ratios)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Timings of the same work; the first one is gridctl's, the others are baselines'."""

    title: str
    timings: tuple[Timing, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures that are not compared by time.

    `bar` names the column that a chart shows, with the first `labels` columns as a row's name, and
    `spread` the columns with the least and the most of its values.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    bar: str | None = None
    labels: int = 1
    spread: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value of a chart with its least and most."""

    name: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of a benchmark and the machine; `notes` name what was not measured."""

    bench: str
    about: str
    comparisons: tuple[Comparison, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    machine: Mapping[str, str] = field(default_factory=lambda: machine())

    def to_json(self) -> dict[str, Any]:
        """Everything, with medians, extremes and ratios worked out."""
        data = asdict(self)
        for comparison, own in zip(self.comparisons, data["comparisons"], strict=True):
            for timing, row in zip(comparison.timings, own["timings"], strict=True):
                row |= {"median": timing.median, "ratio": timing.ratio}
                row |= {"min": min(timing.seconds), "max": max(timing.seconds)}
        for table, own in zip(self.tables, data["tables"], strict=True):
            own["rows"] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        return data

    def charts(self) -> Iterator[tuple[str, str, list[Bar]]]:
        """(title, unit, bars) of each comparison, and of each table that names a bar column."""
        for comparison in self.comparisons:
            yield comparison.title, "seconds", [
                Bar(name=t.name, value=t.median, least=min(t.seconds), most=max(t.seconds))
                for t in comparison.timings
            ]  # fmt: skip
        for table in self.tables:
            if table.bar:
                columns = [table.columns.index(c) for c in (table.bar, *(table.spread or ()))]
                bars = []
                for row in table.rows:
                    value, *spread = (row[column] for column in columns)
                    if isinstance(value, int | float):
                        least, most = spread or (value, value)
                        name = ", ".join(map(str, row[: table.labels]))
                        bars.append(Bar(name=name, value=value, least=least, most=most))
                yield table.title, table.bar, bars


def compare(
    title: str,
    candidates: Sequence[Candidate],
    *,
    repeats: int,
    warmups: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Run all candidates, round after round; the times of the `warmups` first are not kept.

    Raises GridctlError for a time that is not finite or not above zero.
    """
    progress = progress or silent
    times: dict[str, list[float]] = {one.name: [] for one in candidates}
    for done in range(-warmups, repeats):
        for one in candidates:
            if one.once and done != 0:
                continue
            progress(max(done, 0), repeats, f"{one.name}{' (warm-up)' if done < 0 else ''}")
            seconds = timed(one.work)
            if not (math.isfinite(seconds) and seconds > 0):
                raise GridctlError(
                    f"{title}: {one.name} took {seconds} seconds, which is impossible."
                )
            if done >= 0:
                times[one.name].append(seconds)
    progress(repeats, repeats, "")
    first = times[candidates[0].name]
    return Comparison(
        title=title,
        timings=tuple(
            Timing(
                name=one.name,
                seconds=tuple(times[one.name]),
                ratios=tuple(a / b for a, b in zip(first, times[one.name], strict=False)),
                target=one.target,
            )
            for one in candidates
        ),
    )


Compare = Callable[..., Comparison]  # `compare` with its rounds


def timed(work: Callable[[], float | None]) -> float:
    """Seconds that `work` returns, or else takes."""
    start = time.perf_counter()
    own = work()
    return time.perf_counter() - start if own is None else own


def machine() -> dict[str, str]:
    """Date, machine and versions of the packages."""
    facts = {
        "date": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "cores": str(num_cores()),
        "GPUs": ", ".join(card.name for card in nvidia_cards()) or "none",
        "Python": platform.python_version(),
        "gridctl": __version__,
    }
    if hasattr(os, "getloadavg"):  # not on Windows
        facts["load of the last minute"] = f"{os.getloadavg()[0]:.1f}"
    return facts | {name: found for name in _PACKAGES if (found := package_version(name))}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def package_version(package: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_plot(path: Path) -> None:
    """Raise UsageError if no chart can be drawn there, before anything is measured."""
    if path.suffix.lower() not in _CHART_FORMATS:
        formats = ", ".join(_CHART_FORMATS)
        raise UsageError(f"{path} is not a chart; use a name that ends in {formats}.")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; pip install matplotlib.")


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


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """A cache in `folder`, for this process and those that it starts."""
    before = os.environ.get("GRIDCTL_CACHE")
    os.environ["GRIDCTL_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["GRIDCTL_CACHE"]
        if before is not None:
            os.environ["GRIDCTL_CACHE"] = before


def run_python(program: str, *arguments: str) -> None:
    """Run a program in a fresh interpreter; raises what `run_command` raises."""
    run_command([sys.executable, "-c", program, *arguments])


def run_command(command: list[str]) -> None:
    """Run a command without its output; GridctlError with its last line if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:  # never time work that was not done
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise GridctlError(f"a benchmarked command failed: {lines[-1]}")
