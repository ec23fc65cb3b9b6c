"""`gridctl bench caption`."""

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


@bench_app.command("caption", epilog="Example: gridctl bench caption --grids 200")
@with_shell
def caption(
    shell: Shell,
    grids: Annotated[
        int | None,
        typer.Option(min=1, help="Number of grids to make and caption.", show_default="1000"),
    ] = None,
    answer_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Seconds that the server takes for an answer.", show_default="0.2"
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Requests to the server at the same time.", show_default="8"),
    ] = None,
    quick: Quick = False,
    repeats: Repeats = None,
    plot: Plot = None,
    profile: ProfileName = None,
) -> None:
    """Time captioning through a server that only sleeps, next to the time it sleeps."""
    from gridctl.bench.caption import QUICK, CaptionSizes, bench_caption

    flags = {"grids": grids, "answer_seconds": answer_seconds, "concurrency": concurrency}
    sizes = sized(CaptionSizes(), QUICK, quick=quick, **flags)
    run_bench(
        shell,
        lambda _, rounds, progress: bench_caption(sizes, repeats=rounds, progress=progress),
        quick=quick,
        repeats=repeats,
        plot=plot,
        profile=profile,
    )
