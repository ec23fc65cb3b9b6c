"""`gridctl bench`: measured figures, side by side, on a terminal, as JSON or as a chart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gridctl.bench.sizes import (
    QUICK,
    CaptionSizes,
    GenerateSizes,
    MemorySizes,
    PackSizes,
    TrainSizes,
)
from gridctl.cli.flags import command, flags
from gridctl.cli.shell import Shell
from gridctl.profile import LoadedProfile
from gridctl.profile.settings import Section

if TYPE_CHECKING:
    from gridctl.bench.harness import Comparison, Report
    from gridctl.progress import Progress

_QUICK_REPEATS = 2
_PIPE_WIDTH = 160  # columns where there is no terminal
_S = TypeVar("_S", bound=Section)

Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        rich_help_panel="Run",
        help=f"Measure less, in under a minute, {_QUICK_REPEATS} times. The figures are only "
        "rough.",
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel="Output", help="Draw a chart: .png, .svg or .pdf."
    ),
]
_ROUNDS = flags("bench.repeats")


@command(_ROUNDS, table=PackSizes)
def bench_pack(
    shell: Shell,
    loaded: LoadedProfile,
    given: dict[str, Any],
    quick: Quick = False,
    plot: Plot = None,
) -> None:
    """Only this benchmark uses ffmpeg and OpenCV, if they are installed."""
    from gridctl.bench.pack import bench_pack as measure

    sizes = _sizes(PackSizes(), given, quick=quick)
    _run(shell, lambda n, tick: measure(sizes, repeats=n, progress=tick), loaded, quick, plot)


@command(_ROUNDS, table=CaptionSizes)
def bench_caption(
    shell: Shell,
    loaded: LoadedProfile,
    given: dict[str, Any],
    quick: Quick = False,
    plot: Plot = None,
) -> None:
    from gridctl.bench.caption import bench_caption as measure

    sizes = _sizes(CaptionSizes(), given, quick=quick)
    _run(shell, lambda n, tick: measure(sizes, repeats=n, progress=tick), loaded, quick, plot)


@command(_ROUNDS, table=TrainSizes, fallback="tiny")
def bench_train(
    shell: Shell,
    loaded: LoadedProfile,
    given: dict[str, Any],
    quick: Quick = False,
    plot: Plot = None,
) -> None:
    from gridctl.bench.train import bench_train as measure

    sizes, profile = _sizes(TrainSizes(), given, quick=quick), loaded.profile
    _run(
        shell,
        lambda n, tick: measure(profile, sizes, repeats=n, progress=tick),
        loaded,
        quick,
        plot,
    )


@command(_ROUNDS, table=GenerateSizes, fallback="tiny")
def bench_generate(
    shell: Shell,
    loaded: LoadedProfile,
    given: dict[str, Any],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Video models to compare with: wan, ltx, or both with a comma between them. "
            "They have random weights, so nothing is downloaded.",
        ),
    ] = None,
    quick: Quick = False,
    plot: Plot = None,
) -> None:
    """The sampler's images must equal the pipeline's. With --against, the arithmetic of a clip is
    counted at full size, and seconds are measured on this machine: at full size on a GPU, with
    small models on a CPU.
    """
    from gridctl.bench.generate import bench_generate as measure
    from gridctl.bench.video_models import VIDEO_MODELS
    from gridctl.errors import UsageError

    names = [name.strip() for name in against.split(",")] if against else []
    for name in names:
        if name not in VIDEO_MODELS:
            raise UsageError(f"--against has no {name!r}; choose {', '.join(VIDEO_MODELS)}.")
    sizes = _sizes(GenerateSizes(), given, quick=quick)

    def run(rounds: int, progress: Progress) -> Report:
        return measure(
            loaded.profile, sizes, against=names, repeats=rounds, progress=progress, note=shell.note
        )

    _run(shell, run, loaded, quick, plot)


@command(table=MemorySizes)
def bench_memory(
    shell: Shell, given: dict[str, Any], quick: Quick = False, plot: Plot = None
) -> None:
    """Lists have commas between their values. On a GPU each combination loads a full-size base
    with random weights: 20 seconds, and 60 GB of RAM disk.
    """
    from gridctl.bench.memory import bench_memory as measure

    sizes = _sizes(MemorySizes(), given, quick=quick)
    _run(shell, lambda _, progress: measure(sizes, progress=progress), None, quick, plot)


@command(_ROUNDS)
def bench_startup(
    shell: Shell, loaded: LoadedProfile, quick: Quick = False, plot: Plot = None
) -> None:
    from gridctl.bench.startup import bench_startup as measure

    _run(shell, lambda n, tick: measure(repeats=n, progress=tick), loaded, quick, plot)


@command(flags("model.adapter", "generate.steps", "generate.seed"), fallback="tiny")
def bench_quality(
    shell: Shell,
    loaded: LoadedProfile,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            rich_help_panel="Output",
            help="Folder for the report and its pictures.",
        ),
    ] = Path("quality"),
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Number of prompts per part.", show_default="550; 2 with --quick"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="t2v, turn, base, image, image+adapter, vae, i2v, interpolate, multiview, edit, "
            "restore, long keyframes or long windows; may be repeated.",
            show_default="all",
        ),
    ] = None,
    quick: Quick = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            rich_help_panel="Run",
            help="Discard earlier results in the folder and start over.",
        ),
    ] = False,
    plot: Plot = None,
) -> None:
    """Results are written as they come. A run that was stopped resumes when the same command is
    run again.
    """
    from gridctl.bench.harness import check_plot
    from gridctl.bench.quality import PARTS
    from gridctl.bench.quality import QUICK as QUICK_PARTS
    from gridctl.bench.quality import bench_quality as measure
    from gridctl.errors import UsageError

    for part in only or ():
        if part not in PARTS:
            raise UsageError(f"{part!r} is not a part; choose {', '.join(PARTS)}.")
    if plot:
        check_plot(plot)
    shell.detail(loaded.choice)
    with shell.progress("bench", resumes="prompts", lines=True) as progress:
        result = measure(
            loaded.profile,
            output,
            count=count or (2 if quick else 550),
            parts=[part for part in PARTS if part in (only or (QUICK_PARTS if quick else PARTS))],
            force=force,
            progress=progress,
        )
    _show_report(shell, result.report(), plot, result.folder)


@command()
def bench_gpu(
    shell: Shell,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", rich_help_panel="Output", help="Folder for the measured rows."
        ),
    ] = Path("gpu-check"),
    size: Annotated[
        str, typer.Option(help="full, or small for a rehearsal on the CPU.", metavar="full|small")
    ] = "full",
    seconds: Annotated[
        float, typer.Option(min=1, help="Time limit, in seconds. Jobs that do not fit are skipped.")
    ] = 440,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PRESET", help="12gb ... 80gb; may be repeated.", show_default="all"),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Run", help="RAM disk with 60 GB free.", show_default="/dev/shm"
        ),
    ] = None,
) -> None:
    """Needs an NVIDIA GPU with at least 80 GB. Each preset runs in a process that may take only
    the memory of its card.
    """
    from gridctl.bench.gpu import IN_ORDER, check_gpu, table_lines
    from gridctl.errors import ExitCode, UsageError

    unknown = [preset for preset in only or () if preset not in IN_ORDER]
    if unknown or size not in ("full", "small"):
        raise UsageError(
            f"{(unknown or [size])[0]!r} is not known; sizes are full and small, presets "
            f"{', '.join(IN_ORDER)}."
        )
    result = check_gpu(
        output,
        size="full" if size == "full" else "small",
        seconds=seconds,
        presets=only or IN_ORDER,
        scratch=scratch,
        note=shell.note,
    )
    shell.results(table_lines(result.rows), list(result.rows))
    if result.failed:
        raise typer.Exit(ExitCode.PARTIAL)


def _sizes(full: _S, given: dict[str, Any], *, quick: bool) -> _S:
    """The sizes of a full or of a quick run, with the flags that were given."""
    sizes: _S = replace(QUICK[type(full)] if quick else full, **given)
    return sizes


def _run(
    shell: Shell,
    measure: Callable[[int, Progress], Report],
    loaded: LoadedProfile | None,
    quick: bool,
    plot: Path | None,
) -> None:
    """Call `measure` with the number of runs and progress, and show its report."""
    from gridctl.bench.harness import check_plot

    if plot:
        check_plot(plot)
    repeats = _QUICK_REPEATS
    if loaded:
        shell.detail(loaded.choice)
        if not quick or loaded.profile.is_flag("bench.repeats"):
            repeats = loaded.profile.bench.repeats
    try:
        with shell.progress("bench") as progress:
            report = measure(repeats, progress)
    except KeyboardInterrupt:
        shell.note("stopped; figures come at the end, so there are none (--quick measures less)")
        raise
    _show_report(shell, report, plot)


def _show_report(shell: Shell, report: Report, plot: Path | None, *more: object) -> None:
    """Print a report and the lines that follow it, and draw its chart."""
    from gridctl.bench.harness import save_plot

    for note in report.notes:
        shell.note(note)
    shell.results([_text(report), *more], report.to_json())
    if plot:
        save_plot(report, plot)
        shell.note(f"chart: {plot}")


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
