"""`gridctl generate extend`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

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
    ClipInput,
    ClipOutput,
    Fps,
    NumFrames,
    Prompt,
)


@task_command(FIT, BASE, ADAPTER, GRID, SAMPLING, FINE_SAMPLING, FAST, SPEED)
def extend(
    call: Call,
    clip: ClipInput,
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    frames: NumFrames = None,
    fps: Fps = None,
) -> None:
    """Continue a clip. Its own frames stay as they are.

    Example: gridctl generate extend clip.mp4 "a red circle moving right" --frames 48 -o out.mp4
    """
    from gridctl.generate import tasks

    task = partial(tasks.extend, clip=clip, frames=frames)
    call.run(task, prompt=prompt, prompts=None, output=output, fps=fps)
