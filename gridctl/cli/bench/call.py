"""What the benchmarks share: their flags, and a report on a terminal, as JSON or as a chart."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gridctl.cli import complete
from gridctl.cli.shell import Shell

if TYPE_CHECKING:
    from gridctl.bench.harness import Comparison, Report
    from gridctl.profile import Profile
    from gridctl.progress import Progress

_QUICK_REPEATS = 2
_PIPE_WIDTH = 160  # columns where there is no terminal
_Sizes = TypeVar("_Sizes")

bench_app = typer.Typer(
    help="Measure gridctl next to other ways to do the work.",
    epilog="Example: gridctl bench startup",
    no_args_is_help=True,
)

Quick = Annotated[
    bool,
    typer.Option("--quick", help="Measure less, in under a minute. The figures are only rough."),
]
Repeats = Annotated[
    int | None,
    typer.Option(
        min=1, help="Rounds. Medians are reported.", show_default="bench.repeats; 2 with --quick"
    ),
]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw a chart: .png, .svg or .pdf.")
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Profile with the settings that flags do not set.",
        autocompletion=complete.profiles,
    ),
]


def run_bench(
    shell: Shell,
    measure: Callable[[Profile, int, Progress], Report],
    *,
    quick: bool,
    repeats: int | None,
    plot: Path | None,
    profile: str | None,
    fallback: str | None = None,
) -> None:
    """Call `measure` with profile, rounds and progress, and show its report."""
    from gridctl.bench.harness import check_plot
    from gridctl.profile import resolve_profile

    if plot:
        check_plot(plot)
    loaded = resolve_profile(profile, fallback=fallback, overrides={"bench.repeats": repeats})
    shell.detail(loaded.choice)
    rounds = _QUICK_REPEATS if quick and repeats is None else loaded.profile.bench.repeats
    try:
        with shell.progress("bench") as progress:
            report = measure(loaded.profile, rounds, progress)
    except KeyboardInterrupt:
        shell.note("stopped; figures come at the end, so there are none (--quick measures less)")
        raise
    show_report(shell, report, plot=plot)


def show_report(
    shell: Shell, report: Report, *, plot: Path | None, more: Sequence[object] = ()
) -> None:
    """Print a report and the lines that follow it, and draw its chart."""
    from gridctl.bench.harness import save_plot

    for note in report.notes:
        shell.note(note)
    shell.results([_text(report), *more], report.to_json())
    if plot:
        save_plot(report, plot)
        shell.note(f"chart: {plot}")


def sized(full: _Sizes, small: _Sizes, *, quick: bool, **flags: Any) -> _Sizes:
    """The sizes of a full or of a quick run, with the flags that were given."""
    given = {name: value for name, value in flags.items() if value is not None}
    return replace(small if quick else full, **given)  # type: ignore[type-var]


def _text(report: Report) -> str:
    """The report as tables, for a terminal or a pipe."""
    from rich.console import Console

    buffer = StringIO()
    terminal = sys.stdout.isatty()
    console = Console(file=buffer, force_terminal=terminal, width=None if terminal else _PIPE_WIDTH)
    console.print(report.about, highlight=False)
    facts = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    console.print(facts, style="dim", highlight=False)
    for comparison in report.comparisons:
        console.print(_comparison_table(comparison))
    for table in report.tables:
        console.print(_table(table.title, table.columns, table.rows))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).rstrip()


def _comparison_table(comparison: Comparison) -> Any:
    columns = (comparison.title, "median s", "min", "max", "gridctl / this", "target")
    rows = []
    for timing in comparison.timings:
        missed = timing.target is not None and timing.ratio > timing.target
        ratio = f"[yellow]{timing.ratio:.3f}[/]" if missed else f"{timing.ratio:.3f}"
        seconds = (timing.median, min(timing.seconds), max(timing.seconds))
        target = "" if timing.target is None else f"{timing.target:.2f}"
        rows.append((timing.name, *(f"{value:.4g}" for value in seconds), ratio, target))
    return _table("", columns, rows)


def _table(title: str, columns: Any, rows: Any) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    return table
