"""`gridctl bench quality`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.bench.call import Plot, ProfileName, Quick, bench_app, show_report
from gridctl.cli.shell import Shell, with_shell


@bench_app.command("quality", epilog="Example: gridctl bench quality --count 100 -o quality")
@with_shell
def quality(
    shell: Shell,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the report and its pictures.")
    ] = Path("quality"),
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Prompts per part.", show_default="550; 2 with --quick"),
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
    quick: Quick = False,
    force: Annotated[
        bool, typer.Option("--force", help="Discard earlier results in the folder and start over.")
    ] = False,
    plot: Plot = None,
    profile: ProfileName = None,
) -> None:
    """Measure how often the model draws what toy-world prompts ask for.

    Results are written as they come. A run that was stopped resumes when the same command is run
    again.
    """
    from gridctl.bench.harness import check_plot
    from gridctl.bench.quality import PARTS, QUICK, bench_quality
    from gridctl.errors import UsageError
    from gridctl.profile import resolve_profile

    for part in only or ():
        if part not in PARTS:
            raise UsageError(f"{part!r} is not a part; choose {', '.join(PARTS)}.")
    if plot:
        check_plot(plot)
    overrides = {"model.adapter": adapter, "generate.steps": steps, "generate.seed": seed}
    loaded = resolve_profile(profile, fallback="tiny", overrides=overrides)
    shell.detail(loaded.choice)
    with shell.progress("bench", resumes="prompts", lines=True) as progress:
        result = bench_quality(
            loaded.profile,
            output,
            count=count or (2 if quick else 550),
            parts=[part for part in PARTS if part in (only or (QUICK if quick else PARTS))],
            force=force,
            progress=progress,
        )
    show_report(shell, result.report(), plot=plot, more=[result.folder])
