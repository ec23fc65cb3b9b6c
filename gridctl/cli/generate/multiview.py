"""`gridctl generate multiview`."""

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
def multiview(
    call: Call,
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="[FRONT] PROMPT",
            help="Picture of the object, if there is one, and a prompt that names it.",
            show_default=False,
        ),
    ],
    output: ClipOutput = Path("out.mp4"),
    fps: Fps = None,
) -> None:
    """Draw a full turn around an object.

    Example: gridctl generate multiview front.png "a pink cube on white" -o turn.mp4
    """
    from gridctl.errors import UsageError
    from gridctl.generate import tasks

    if len(source) > 2:
        raise UsageError(f"{len(source)} words are given; put the prompt in quotation marks.")
    front = Path(source[0]) if len(source) == 2 else None
    task = partial(tasks.multiview, front=front)
    call.run(task, prompt=source[-1], prompts=None, output=output, fps=fps)
