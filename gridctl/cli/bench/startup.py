"""`gridctl bench startup`."""

from __future__ import annotations

from gridctl.cli.bench.call import Plot, ProfileName, Quick, Repeats, bench_app, run_bench
from gridctl.cli.shell import Shell, with_shell


@bench_app.command("startup", epilog="Example: gridctl bench startup --repeats 11")
@with_shell
def startup(
    shell: Shell,
    quick: Quick = False,
    repeats: Repeats = None,
    plot: Plot = None,
    profile: ProfileName = None,
) -> None:
    """Time `gridctl --help` next to a bare Typer app with as many commands."""
    from gridctl.bench.startup import bench_startup

    run_bench(
        shell,
        lambda _, rounds, progress: bench_startup(repeats=rounds, progress=progress),
        quick=quick,
        repeats=repeats,
        plot=plot,
        profile=profile,
    )
