"""`gridctl generate t2v`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from gridctl.cli.generate.call import Call, task_command
from gridctl.cli.generate.flags import (
    ADAPTER,
    BASE,
    FINE_SAMPLING,
    GRID,
    SAMPLING,
    ClipOutput,
    Fps,
    NumFrames,
    Prompt,
    Prompts,
)

if TYPE_CHECKING:
    from gridctl.generate.long import Long


@task_command(BASE, ADAPTER, GRID, SAMPLING, FINE_SAMPLING)
def t2v(
    call: Call,
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    prompts: Prompts = None,
    frames: NumFrames = None,
    long: Annotated[
        str,
        typer.Option(
            help="How clips longer than the grid are drawn. keyframes: frames over the whole clip "
            "first, then those between. windows: one grid after the other.",
            rich_help_panel="Output",
        ),
    ] = "keyframes",
    fps: Fps = None,
) -> None:
    """Text to video: draw a clip as one grid, or as several with --frames.

    An adapter draws the grid; the built-in model has its own.

    Example: gridctl generate t2v "a red circle moving right" -o out.mp4
    """
    from gridctl.errors import UsageError
    from gridctl.generate.tasks.t2v import prepare

    if long not in ("keyframes", "windows"):
        raise UsageError(f"--long {long} is unknown; choose keyframes or windows.")
    task = partial(prepare, frames=frames, long=cast("Long", long))
    call.run(task, prompt=prompt, prompts=prompts, output=output, fps=fps)
