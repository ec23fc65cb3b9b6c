"""`gridctl generate edit`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.generate.call import Call, task_command
from gridctl.cli.generate.flags import (
    ADAPTER,
    BASE,
    EDIT,
    FIT,
    GRID,
    SAMPLE,
    SAMPLING,
    SPEED,
    ClipInput,
    ClipOutput,
    Fps,
    ManyFrames,
    Prompt,
)


@task_command(SAMPLE, FIT, BASE, ADAPTER, GRID, EDIT, SAMPLING, SPEED)
def edit(
    call: Call,
    clip: ClipInput,
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    source_prompt: Annotated[
        str | None,
        typer.Option(
            help="What the clip shows now.",
            show_default="its caption",
            rich_help_panel="Input",
        ),
    ] = None,
    frames: ManyFrames = None,
    fps: Fps = None,
) -> None:
    """Change what a clip shows and keep its motion: an object's colour, the background, a style.

    Example: gridctl generate edit clip.mp4 "a blue circle moving right" -o out.mp4
    """
    from gridctl.generate import tasks

    task = partial(tasks.edit, clip=clip, source_prompt=source_prompt, frames=frames)
    call.run(task, prompt=prompt, prompts=None, output=output, fps=fps)
