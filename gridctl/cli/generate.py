"""`gridctl generate`: a command for each task."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.draw import Call, report_result, task_command
from gridctl.cli.flags import command, flags
from gridctl.cli.shell import Shell
from gridctl.errors import UsageError, listed
from gridctl.formats import CLIP_SUFFIXES, PICTURE_SUFFIXES

Prompt = Annotated[str | None, typer.Argument(help="What to draw.", show_default=False)]
Prompts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with one prompt per line, or - for stdin. A line may be JSON with prompt, seed, "
        "steps or other settings. -o is then a folder. Existing outputs are skipped.",
        rich_help_panel="Input",
    ),
]
ClipInput = Annotated[
    Path,
    typer.Argument(
        help="Video, animation, folder of frames, or grid image that gridctl made.",
        show_default=False,
    ),
]
ClipOutput = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help=f"Clip to write: {listed(CLIP_SUFFIXES)}; .png or .jpg for a grid image; without a "
        "suffix, a folder of PNG frames.",
        rich_help_panel="Output",
    ),
]
NumFrames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="Number of frames of the clip. More than the grid has are drawn as several grids.",
        show_default=False,
        rich_help_panel="Output",
    ),
]
SpreadFrames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="Take N frames, spread over the clip. More than the grid has are drawn as several "
        "grids.",
        show_default="by --sample",
        rich_help_panel="Input",
    ),
]
Long = Annotated[
    str,
    typer.Option(
        help="How clips longer than the grid are drawn. keyframes: frames over the whole clip "
        "first, then those between. windows: one grid after the other.",
        rich_help_panel="Output",
    ),
]

_MODEL = flags("model.base", "model.adapter", "model.adapter_scale")
_GRID = flags("grid", default="the adapter's")
_SAMPLING = flags("generate.steps", "generate.seed", "generate.guidance", "generate.true_cfg_scale")
_FINE = flags(
    "generate.true_cfg_max_sigma",
    "generate.stochastic_min_sigma",
    "generate.average_max_sigma",
    "generate.resample",
)
_FAST = flags("generate.fast")
_SPEED = flags("generate.compile", "model.attention")
_FPS = flags("generate.fps", default="the adapter's")
_FIT = flags("pack.fit", "pack.background", panel="Input")
_SAMPLE = flags(
    "pack.sample",
    panel="Input",
    help="Frames to take from the clip. uniform: one grid, spread over the whole clip. windows: "
    "all frames, grid after grid.",
)
_CLIP = [*_MODEL, *_GRID, *_SAMPLING, *_FINE, *_FPS, *_FAST, *_SPEED]


@command()
def generate(
    shell: Shell,
    context: typer.Context,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Regenerate this output of gridctl generate from its stored settings.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File that --from writes.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite that file.")] = False,
) -> None:
    """The built-in model knows few words; gridctl generate vocabulary lists them."""
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
    report_result(shell, result)


@task_command(_CLIP)
def generate_t2v(
    call: Call,
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    prompts: Prompts = None,
    frames: NumFrames = None,
    long: Long = "keyframes",
) -> None:
    """An adapter draws the grid; the built-in model has its own."""
    from gridctl.generate import tasks

    task = partial(tasks.t2v, frames=frames, long=long)
    call.run(task, prompt=prompt, prompts=prompts, output=output)


@task_command(_FIT, _CLIP)
def generate_i2v(
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
    long: Long = "keyframes",
) -> None:
    """Given frames are fitted to the grid's cells and come back unchanged in lossless outputs."""
    from gridctl.generate import tasks

    given = [_parse_at(text) for text in at or ()]
    task = partial(tasks.i2v, first=first, last=last, at=given, frames=frames, long=long)
    call.run(task, prompt=prompt, prompts=prompts, output=output)


def _parse_at(text: str) -> tuple[int, Path]:
    """`12=frame.png` → (12, path)."""
    number, equals, name = text.partition("=")
    if not number.strip().isdecimal() or not equals or not name:
        raise UsageError(f"--at {text} is not N=FILE; write --at 12=frame.png.")
    return int(number), Path(name)


@task_command(_FIT, _CLIP)
def generate_interpolate(
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
) -> None:
    """The first picture is the first frame and the last is the last; others are spread evenly."""
    from gridctl.generate import tasks

    call.run(partial(tasks.interpolate, pictures=pictures), prompt=prompt, output=output)


@task_command(_FIT, _CLIP)
def generate_multiview(
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
) -> None:
    from gridctl.generate import tasks

    if len(source) > 2:
        raise UsageError(f"{len(source)} words are given; put the prompt in quotation marks.")
    front = Path(source[0]) if len(source) == 2 else None
    call.run(partial(tasks.multiview, front=front), prompt=source[-1], output=output)


@task_command(_FIT, _CLIP)
def generate_extend(
    call: Call,
    clip: ClipInput,
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    frames: NumFrames = None,
) -> None:
    from gridctl.generate import tasks

    call.run(partial(tasks.extend, clip=clip, frames=frames), prompt=prompt, output=output)


@task_command(
    _SAMPLE,
    _FIT,
    _MODEL,
    _GRID,
    flags("generate.edit_strength", "generate.edit_guidance", "generate.edit_source_guidance"),
    _SAMPLING,
    _FPS,
    _SPEED,
)
def generate_edit(
    call: Call,
    clip: ClipInput,
    prompt: Prompt = None,
    output: ClipOutput = Path("out.mp4"),
    source_prompt: Annotated[
        str | None,
        typer.Option(
            help="What the clip shows now.", show_default="its caption", rich_help_panel="Input"
        ),
    ] = None,
    frames: SpreadFrames = None,
) -> None:
    from gridctl.generate import tasks

    task = partial(tasks.edit, clip=clip, source_prompt=source_prompt, frames=frames)
    call.run(task, prompt=prompt, output=output)


@task_command(_SAMPLE, _FIT, flags("generate.restore_strength"), _CLIP)
def generate_restore(
    call: Call,
    clip: ClipInput,
    output: ClipOutput = Path("out.mp4"),
    prompt: Annotated[
        str,
        typer.Option(
            help="What the clip shows.", show_default="its caption", rich_help_panel="Input"
        ),
    ] = "",
    frames: SpreadFrames = None,
) -> None:
    from gridctl.generate import tasks

    call.run(partial(tasks.restore, clip=clip, frames=frames), prompt=prompt, output=output)


@task_command(flags("model.base", "generate.size"), _SAMPLING, _FINE, _FAST, _SPEED)
def generate_image(
    call: Call,
    prompt: Prompt = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help=f"Image to write: {listed(PICTURE_SUFFIXES)}.",
            rich_help_panel="Output",
        ),
    ] = Path("out.png"),
    prompts: Prompts = None,
) -> None:
    from gridctl.generate import tasks

    call.run(tasks.image, prompt=prompt, prompts=prompts, output=output)


@command()
def generate_vocabulary(shell: Shell) -> None:
    from gridctl.tiny.words import EXAMPLES, VOCABULARY

    lines = [f"{kind:<12} {', '.join(words)}" for kind, words in VOCABULARY.items()]
    lines += [f"{'example' if not i else '':<12} {text}" for i, text in enumerate(EXAMPLES)]
    shell.results(lines, {**VOCABULARY, "examples": EXAMPLES})
