"""`gridctl bench gpu`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.bench.call import bench_app
from gridctl.cli.shell import Shell, with_shell


@bench_app.command("gpu", epilog="Example: gridctl bench gpu -o gpu-check --seconds 440")
@with_shell
def gpu(
    shell: Shell,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the measured rows.")
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
