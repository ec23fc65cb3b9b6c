"""`gridctl bench`: measured figures, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli import complete
from gridctl.cli.shell import Shell, with_shell

bench_app = typer.Typer(
    help="Measure gridctl next to other ways to do the work.",
    epilog="Example: gridctl bench pack",
    no_args_is_help=True,
)


@bench_app.command("pack", epilog="Example: gridctl bench pack --clips 2 --minutes 1")
@with_shell
def pack(
    shell: Shell,
    clips: Annotated[int, typer.Option(min=1, help="Number of 720p clips to make and pack.")] = 8,
    frames: Annotated[int, typer.Option(min=24, help="Number of frames in each clip.")] = 390,
    minutes: Annotated[
        float, typer.Option(min=0.05, help="Length of the long clip, in minutes.")
    ] = 40.0,
    names: Annotated[
        int, typer.Option(min=10, help="Empty files to list, to see whether time grows linearly.")
    ] = 100_000,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Number of rounds. The median is reported.", show_default="5"),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Profile with the settings that flags do not set.",
            autocompletion=complete.profiles,
        ),
    ] = None,
) -> None:
    """Time packing next to decoding alone, an ffmpeg loop, and PNG frames tiled with OpenCV.

    Only this benchmark uses ffmpeg and OpenCV, if they are installed.
    """
    from dataclasses import asdict

    from gridctl.bench.pack import bench_pack
    from gridctl.profile import resolve_profile

    loaded = resolve_profile(profile, fallback=None, overrides={"bench.repeats": repeats})
    shell.detail(loaded.choice)
    with shell.progress("bench") as progress:
        result = bench_pack(
            clips=clips,
            frames=frames,
            minutes=minutes,
            repeats=loaded.profile.bench.repeats,
            names=names,
            progress=progress,
        )
    for note in result.notes:
        shell.note(note)
    lines = [result.about]
    for title, rows in (("the clips", result.windows), ("the long clip", result.uniform)):
        lines.append(f"{title:<34}{'seconds':>10}{'gridctl / this':>17}{'aim':>8}")
        for row in rows:
            aim = "" if row.limit is None else f"{row.limit:.2f}"
            lines.append(f"{row.work:<34}{row.seconds:>10.3f}{row.ratio:>17.2f}{aim:>8}")
    lines.append("peak memory, by length of the clip")
    lines.extend(f"{p.clip_seconds:>10.1f} s{p.megabytes:>10.1f} MB" for p in result.memory)
    lines.append(f"{f'{names:,} clips':<20}{'seconds':>10}{'per clip, over a tenth':>26}")
    lines.extend(f"{row.work:<20}{row.seconds:>10.2f}{row.growth:>26.2f}" for row in result.names)
    shell.results(lines, asdict(result))


@bench_app.command("startup", epilog="Example: gridctl bench startup")
@with_shell
def startup(
    shell: Shell,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of runs. The median is reported.")
    ] = 11,
) -> None:
    """Time `gridctl --help` next to a bare Typer app with as many commands."""
    from dataclasses import asdict

    from gridctl.bench.startup import bench_startup

    with shell.progress("bench") as progress:
        results = bench_startup(repeats=repeats, progress=progress)
    lines = [f"{'command':<16}{'gridctl s':>12}{'bare s':>10}{'ratio':>8}"]
    for row in results:
        lines.append(
            f"{row.arguments:<16}{row.gridctl_seconds:>12.3f}{row.bare_seconds:>10.3f}"
            f"{row.ratio:>8.2f}"
        )
    shell.results(lines, [{**asdict(row), "ratio": row.ratio} for row in results])


@bench_app.command("caption", epilog="Example: gridctl bench caption --grids 200")
@with_shell
def caption(
    shell: Shell,
    grids: Annotated[int, typer.Option(min=1, help="Number of grids to make and caption.")] = 1000,
    answer_seconds: Annotated[
        float, typer.Option(min=0.001, help="Seconds that the server takes for an answer.")
    ] = 0.2,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests to the server at the same time.")
    ] = 8,
) -> None:
    """Time captioning through a server that only sleeps, next to the time it sleeps."""
    from dataclasses import asdict

    from gridctl.bench.caption import bench_caption

    with shell.progress("bench") as progress:
        result = bench_caption(
            grids=grids,
            answer_seconds=answer_seconds,
            concurrency=concurrency,
            progress=progress,
        )
    lines = [
        result.about,
        f"{'gridctl caption':<24}{result.seconds:>9.2f} s",
        f"{'the server alone':<24}{result.ideal_seconds:>9.2f} s",
        f"{'ratio':<24}{result.ratio:>9.2f}",
    ]
    shell.results(lines, {**asdict(result), "ratio": result.ratio})


@bench_app.command("quality", epilog="Example: gridctl bench quality --count 100 -o quality")
@with_shell
def quality(
    shell: Shell,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the report and its pictures.")
    ] = Path("quality"),
    count: Annotated[int, typer.Option(min=1, help="Prompts per part.")] = 550,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="t2v, turn, base, image, image+adapter, vae, i2v, interpolate, multiview, edit, "
            "restore, long keyframes or long windows; may be repeated.",
            show_default="all",
        ),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Adapter to measure.", show_default="the profile's")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of sampling steps.", show_default="the profile's"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Random seed of prompts and noise.", show_default="the profile's"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start over in a folder with other settings.")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Profile that sets what flags do not.")
    ] = None,
) -> None:
    """Measure how often the model draws what toy-world prompts ask for.

    Results are written as they come. A run that was stopped resumes when the same command is run
    again.
    """
    from gridctl.bench.quality import PARTS, bench_quality, quality_data
    from gridctl.errors import UsageError
    from gridctl.profile import resolve_profile

    for part in only or ():
        if part not in PARTS:
            raise UsageError(f"{part!r} is no part; choose {', '.join(PARTS)}.")
    overrides = {"model.adapter": adapter, "generate.steps": steps, "generate.seed": seed}
    loaded = resolve_profile(profile, fallback="tiny", overrides=overrides)
    shell.detail(loaded.choice)
    with shell.progress("bench", resumes="prompts", lines=True) as progress:
        result = bench_quality(
            loaded.profile,
            output,
            count=count,
            parts=[part for part in PARTS if not only or part in only],
            force=force,
            progress=progress,
        )
    lines = [result.about, f"{'part':<15}{'what':<13}{'right':>7}{'95 % interval':>17}"]
    for score in result.scores:
        low, high = score.interval
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        lines.append(f"{score.part:<15}{score.what:<13}{100 * score.rate:>6.1f}%{interval:>17}")
    lines += [f"{name:<28}{value:>7.2f}" for name, value in result.figures.items()]
    shell.results([*lines, result.folder], quality_data(result))


@bench_app.command("gpu", epilog="Example: gridctl bench gpu -o gpu-check --seconds 440")
@with_shell
def gpu(
    shell: Shell,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the measured rows.")
    ] = Path("gpu-check"),
    size: Annotated[
        str, typer.Option(help="full, or small: a rehearsal on the CPU.", metavar="full|small")
    ] = "full",
    seconds: Annotated[
        float, typer.Option(min=1, help="Time limit; jobs that it leaves no time are skipped.")
    ] = 440,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PRESET", help="12gb ... 80gb; may be repeated.", show_default="all"),
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="RAM disk with 60 GB free.", show_default="/dev/shm")
    ] = None,
) -> None:
    """Train, resume and generate with every memory preset on a full-size random FLUX.1.

    Needs an NVIDIA GPU with at least 80 GB. Each preset runs in a process that may take only the
    memory of its card.
    """
    from gridctl.bench.gpu import PRESETS, check_gpu, table_lines
    from gridctl.errors import ExitCode, UsageError

    unknown = [preset for preset in only or () if preset not in PRESETS]
    if unknown or size not in ("full", "small"):
        raise UsageError(
            f"{(unknown or [size])[0]!r} is not known; sizes are full and small, presets "
            f"{', '.join(PRESETS)}."
        )
    result = check_gpu(
        output,
        size="full" if size == "full" else "small",
        seconds=seconds,
        presets=only or PRESETS,
        scratch=scratch,
        note=shell.note,
    )
    shell.results(table_lines(result.rows), list(result.rows))
    if result.failed:
        raise typer.Exit(ExitCode.PARTIAL)
