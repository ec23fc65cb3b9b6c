"""The harness of all benchmarks: contestants take turns, and every figure has its spread.

Each round runs every contestant once, so that a busy moment of the machine affects all of them.
Ratios are taken within a round, then their median: they say more than seconds.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gridctl import __version__
from gridctl.errors import GridctlError
from gridctl.machine.devices import num_cores, nvidia_cards
from gridctl.progress import Progress, silent

_PACKAGES = (
    "torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes", "torchao", "av",
    "pillow", "numpy", "typer",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to do the work. `work` returns seconds if it measures itself, else None.

    `target`: the first contestant should take at most this many times the time of this one.
    `once` is for work of minutes that differs by far more than noise.
    """

    name: str
    work: Callable[[], float | None]
    target: float | None = None
    once: bool = False


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A contestant's seconds in each round, and the first contestant's time over its own."""

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
class Contest:
    """Contestants that did the same work; the first one is gridctl."""

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
    """What a benchmark found, on which machine; `notes` name what was not measured."""

    bench: str
    about: str
    contests: tuple[Contest, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    machine: Mapping[str, str] = field(default_factory=lambda: machine())

    def to_json(self) -> dict[str, Any]:
        """Everything, with medians, extremes and ratios worked out."""
        data = asdict(self)
        for contest, own in zip(self.contests, data["contests"], strict=True):
            for timing, row in zip(contest.timings, own["timings"], strict=True):
                row |= {"median": timing.median, "ratio": timing.ratio}
                row |= {"min": min(timing.seconds), "max": max(timing.seconds)}
        for table, own in zip(self.tables, data["tables"], strict=True):
            own["rows"] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        return data

    def charts(self) -> Iterator[tuple[str, str, list[Bar]]]:
        """(title, unit, bars) of each contest, and of each table that names a column for bars."""
        for contest in self.contests:
            yield contest.title, "seconds", [
                Bar(name=t.name, value=t.median, least=min(t.seconds), most=max(t.seconds))
                for t in contest.timings
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


def hold_contest(
    title: str,
    contestants: Sequence[Contestant],
    *,
    repeats: int,
    warmups: int = 0,
    progress: Progress | None = None,
) -> Contest:
    """Run all contestants, round after round; the times of the `warmups` first are not kept.

    Raises GridctlError for a time that cannot be: not finite, or not above zero.
    """
    progress = progress or silent
    times: dict[str, list[float]] = {one.name: [] for one in contestants}
    for done in range(-warmups, repeats):
        for one in contestants:
            if one.once and done != 0:
                continue
            progress(max(done, 0), repeats, f"{one.name}{' (warm-up)' if done < 0 else ''}")
            seconds = timed(one.work)
            if not (math.isfinite(seconds) and seconds > 0):
                raise GridctlError(f"{title}: {one.name} took {seconds} seconds, which cannot be.")
            if done >= 0:
                times[one.name].append(seconds)
    progress(repeats, repeats, "")
    first = times[contestants[0].name]
    return Contest(
        title=title,
        timings=tuple(
            Timing(
                name=one.name,
                seconds=tuple(times[one.name]),
                ratios=tuple(a / b for a, b in zip(first, times[one.name], strict=False)),
                target=one.target,
            )
            for one in contestants
        ),
    )


def timed(work: Callable[[], float | None]) -> float:
    """The seconds that `work` takes, or says that it took."""
    start = time.perf_counter()
    own = work()
    return time.perf_counter() - start if own is None else own


def machine() -> dict[str, str]:
    """The date, the machine and the versions of what was measured."""
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
    return facts | {name: found for name in _PACKAGES if (found := _version(name))}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
