"""`gridctl generate --from FILE`: draw an output again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.generate.call import generate_app
from gridctl.cli.generate.report import report
from gridctl.cli.shell import Shell, with_shell


@generate_app.callback(invoke_without_command=True)
@with_shell
def generate(
    shell: Shell,
    context: typer.Context,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Draw this output of gridctl generate again, by the record inside it.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where --from draws to.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite that file.")] = False,
) -> None:
    """Draw clips and images from prompts and pictures."""
    from gridctl.errors import UsageError

    if context.invoked_subcommand is not None:
        if from_ is not None:
            raise UsageError("--from stands alone: the file says its task and all settings.")
        return
    if from_ is None or output is None:
        raise UsageError("name a task, or a file with --from and the new one with -o.")
    from gridctl.generate import draw
    from gridctl.generate.record import remake

    job = remake(from_, output)
    with shell.progress("draw") as progress:
        result = draw(job, force=force, progress=progress)
    report(shell, result)
