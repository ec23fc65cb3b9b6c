"""`gridctl generate image`."""

from __future__ import annotations

from pathlib import Path

from gridctl.cli.generate.call import Call, task_command
from gridctl.cli.generate.flags import (
    BASE,
    FAST,
    FINE_SAMPLING,
    SAMPLING,
    SIZE,
    SPEED,
    PictureOutput,
    Prompt,
    Prompts,
)


@task_command(BASE, SIZE, SAMPLING, FINE_SAMPLING, FAST, SPEED)
def image(
    call: Call,
    prompt: Prompt = None,
    output: PictureOutput = Path("out.png"),
    prompts: Prompts = None,
) -> None:
    """Draw a single image with the base model, without an adapter.

    Example: gridctl generate image "a blue star on a white background" -o star.png
    """
    from gridctl.generate import tasks

    call.run(tasks.image, prompt=prompt, prompts=prompts, output=output)
