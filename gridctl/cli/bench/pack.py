"""`gridctl bench pack`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.bench.call import (
    Plot,
    ProfileName,
    Quick,
    Repeats,
    bench_app,
    run_bench,
    sized,
)
from gridctl.cli.shell import Shell, with_shell


@bench_app.command("pack", epilog="Example: gridctl bench pack --clips 2 --minutes 1")
@with_shell
def pack(
    shell: Shell,
    clips: Annotated[
        int | None,
        typer.Option(min=1, help="Number of 720p clips to make and pack.", show_default="8"),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=24, help="Frames in each clip.", show_default="390")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.05, help="Length of the long clip, in minutes.", show_default="40"),
    ] = None,
    names: Annotated[
        int | None,
        typer.Option(
            min=10,
            help="Empty files to list, to see whether time grows linearly.",
            show_default="100000",
        ),
    ] = None,
    quick: Quick = False,
    repeats: Repeats = None,
    plot: Plot = None,
    profile: ProfileName = None,
) -> None:
    """Time packing next to decoding alone, an ffmpeg loop, and PNG frames tiled with OpenCV.

    Only this benchmark uses ffmpeg and OpenCV, if they are installed.
    """
    from gridctl.bench.pack import QUICK, PackSizes, bench_pack

    sizes = sized(
        PackSizes(), QUICK, quick=quick, clips=clips, frames=frames, minutes=minutes, names=names
    )
    run_bench(
        shell,
        lambda _, rounds, progress: bench_pack(sizes, repeats=rounds, progress=progress),
        quick=quick,
        repeats=repeats,
        plot=plot,
        profile=profile,
    )
