"""`gridctl generate i2v`."""

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
    HowLong,
    NumFrames,
    Prompt,
    Prompts,
)
from gridctl.errors import UsageError


@task_command(FIT, BASE, ADAPTER, GRID, SAMPLING, FINE_SAMPLING, FAST, SPEED)
def i2v(
    call: Call,
    first: Annotated[
        Path, typer.Argument(help="Picture that the clip begins with.", show_default=False)
    ],
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    last: Annotated[
        Path | None,
        typer.Option(help="Picture that the clip ends with.", rich_help_panel="Input"),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N=FILE",
            help="Picture for frame N, counted from 0; may be repeated.",
            rich_help_panel="Input",
            show_default=False,
        ),
    ] = None,
    prompts: Prompts = None,
    frames: NumFrames = None,
    long: HowLong = "keyframes",
    fps: Fps = None,
) -> None:
    """Image to video: draw a clip that begins with a picture.

    Given frames are fitted to the grid's cells and come back unchanged in lossless outputs.

    Example: gridctl generate i2v first.png "a red circle moving right" -o out.mp4
    """
    from gridctl.generate import tasks

    given = [_parse_at(text) for text in at or ()]
    task = partial(tasks.i2v, first=first, last=last, at=given, frames=frames, long=long)
    call.run(task, prompt=prompt, prompts=prompts, output=output, fps=fps)


def _parse_at(text: str) -> tuple[int, Path]:
    """`12=frame.png` → (12, path)."""
    number, equals, name = text.partition("=")
    if not number.strip().isdecimal() or not equals or not name:
        raise UsageError(f"--at {text} is not N=FILE; write --at 12=frame.png.")
    return int(number), Path(name)
