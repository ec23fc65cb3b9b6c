"""`gridctl generate restore`."""

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
    RESTORE,
    SAMPLE,
    SAMPLING,
    SPEED,
    ClipInput,
    ClipOutput,
    Fps,
    ManyFrames,
)


@task_command(SAMPLE, FIT, BASE, ADAPTER, GRID, RESTORE, SAMPLING, FINE_SAMPLING, FAST, SPEED)
def restore(
    call: Call,
    clip: ClipInput,
    output: ClipOutput = Path("out.mp4"),
    prompt: Annotated[
        str,
        typer.Option(
            help="What the clip shows.", show_default="its caption", rich_help_panel="Input"
        ),
    ] = "",
    frames: ManyFrames = None,
    fps: Fps = None,
) -> None:
    """Draw a clip again from a little noise: less flicker and noise, the same content.

    Example: gridctl generate restore clip.mp4 -o out.mp4
    """
    from gridctl.generate import tasks

    task = partial(tasks.restore, clip=clip, frames=frames)
    call.run(task, prompt=prompt, prompts=None, output=output, fps=fps)
