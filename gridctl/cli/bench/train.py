"""`gridctl bench train`."""

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


@bench_app.command("train", epilog="Example: gridctl bench train --quick")
@with_shell
def train(
    shell: Shell,
    grids: Annotated[
        int | None,
        typer.Option(min=1, help="Grids to encode into a cache.", show_default="1000"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Grids in a training step.", show_default="the profile's"),
    ] = None,
    quick: Quick = False,
    repeats: Repeats = None,
    plot: Plot = None,
    profile: ProfileName = None,
) -> None:
    """Time a training step, the start of a run and filling the cache, next to the bare model."""
    from gridctl.bench.train import QUICK, TrainSizes, bench_train

    sizes = sized(TrainSizes(), QUICK, quick=quick, grids=grids, batch=batch)
    run_bench(
        shell,
        lambda found, rounds, progress: bench_train(
            found, sizes, repeats=rounds, progress=progress
        ),
        quick=quick,
        repeats=repeats,
        plot=plot,
        profile=profile,
        fallback="tiny",
    )
