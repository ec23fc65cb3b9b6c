"""`gridctl bench generate`."""

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


@bench_app.command("generate", epilog="Example: gridctl bench generate --against wan,ltx")
@with_shell
def generate(
    shell: Shell,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Video models to compare with: wan, ltx, or both with a comma between them. "
            "They have random weights, so nothing is downloaded.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Sampling steps of a clip.", show_default="the profile's"),
    ] = None,
    quick: Quick = False,
    repeats: Repeats = None,
    plot: Plot = None,
    profile: ProfileName = None,
) -> None:
    """Time the sampler next to diffusers' FluxPipeline, and a whole call next to its imports.

    The sampler's images must equal the pipeline's. With --against, the arithmetic of a clip is
    counted at full size, and seconds are measured on this machine: at full size on a GPU, with
    small models on a CPU.
    """
    from gridctl.bench.generate import QUICK, GenerateSizes, bench_generate
    from gridctl.bench.video_models import VIDEO_MODELS
    from gridctl.errors import UsageError

    names = [name.strip() for name in against.split(",")] if against else []
    for name in names:
        if name not in VIDEO_MODELS:
            raise UsageError(f"--against has no {name!r}; choose {', '.join(VIDEO_MODELS)}.")
    sizes = sized(GenerateSizes(), QUICK, quick=quick, steps=steps)
    run_bench(
        shell,
        lambda found, rounds, progress: bench_generate(
            found, sizes, against=names, repeats=rounds, progress=progress, note=shell.note
        ),
        quick=quick,
        repeats=repeats,
        plot=plot,
        profile=profile,
        fallback="tiny",
    )
