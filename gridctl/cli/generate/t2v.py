"""`gridctl generate t2v`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gridctl.cli.generate.call import Call, task_command
from gridctl.cli.generate.flags import (
    ADAPTER,
    BASE,
    FAST,
    FINE_SAMPLING,
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


@task_command(BASE, ADAPTER, GRID, SAMPLING, FINE_SAMPLING, FAST, SPEED)
def t2v(
    call: Call,
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    prompts: Prompts = None,
    frames: NumFrames = None,
    long: HowLong = "keyframes",
    fps: Fps = None,
) -> None:
    """Text to video: draw a clip as one grid, or as several with --frames.

    An adapter draws the grid; the built-in model has its own.

    Example: gridctl generate t2v "a red circle moving right" -o out.mp4
    """
    from gridctl.generate import tasks

    task = partial(tasks.t2v, frames=frames, long=long)
    call.run(task, prompt=prompt, prompts=prompts, output=output, fps=fps)
