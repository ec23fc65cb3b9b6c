"""`gridctl generate interpolate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.generate.call import Call, task_command
from gridctl.cli.generate.flags import (
    ADAPTER,
    BASE,
    FAST,
    FINE_SAMPLING,
    FIT,
    GRID,
    SAMPLING,
    SPEED,
    ClipOutput,
    Fps,
)


@task_command(FIT, BASE, ADAPTER, GRID, SAMPLING, FINE_SAMPLING, FAST, SPEED)
def interpolate(
    call: Call,
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURE...",
            help="Two or more pictures, in the order the clip shows them.",
            show_default=False,
        ),
    ],
    output: ClipOutput = Path("out.mp4"),
    prompt: Annotated[
        str, typer.Option(help="What the clip shows; may be left out.", rich_help_panel="Input")
    ] = "",
    fps: Fps = None,
) -> None:
    """Draw the frames between pictures.

    The first picture is the first frame and the last is the last; others are spread evenly.

    Example: gridctl generate interpolate a.png b.png -o out.mp4
    """
    from gridctl.generate import tasks

    task = partial(tasks.interpolate, pictures=pictures)
    call.run(task, prompt=prompt, prompts=None, output=output, fps=fps)
