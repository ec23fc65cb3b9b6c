"""`gridctl bench`: measured figures, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.shell import Shell, with_shell

bench_app = typer.Typer(
    help="Measure gridctl beside what else could do the work.",
    epilog="Example: gridctl bench pack",
    no_args_is_help=True,
)


@bench_app.command("pack", epilog="Example: gridctl bench pack --clips 8 --frames 390")
@with_shell
def pack(
    shell: Shell,
    clips: Annotated[int, typer.Option(min=1, help="720p clips to make and pack.")] = 4,
    frames: Annotated[int, typer.Option(min=24, help="Frames of each clip.")] = 120,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Rounds; the median counts.", show_default="5")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where flags' defaults come from.")
    ] = None,
) -> None:
    """Time packing beside decoding alone, and beside an ffmpeg loop if ffmpeg is
    there.
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
            repeats=loaded.profile.bench.repeats,
            progress=progress,
        )
    for note in result.notes:
        shell.note(note)
    lines = [result.about, f"{'work':<42}{'seconds':>9}{'gridctl / this':>16}"]
    for row in result.measurements:
        lines.append(f"{row.work:<42}{row.seconds:>9.3f}{row.ratio:>16.2f}")
    shell.results(lines, asdict(result))


@bench_app.command("startup", epilog="Example: gridctl bench startup")
@with_shell
def startup(
    shell: Shell,
    repeats: Annotated[int, typer.Option(min=1, help="Runs; the median counts.")] = 11,
) -> None:
    """Time `gridctl --help` beside a bare Typer app of as many commands."""
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
