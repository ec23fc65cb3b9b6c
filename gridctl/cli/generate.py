"""`gridctl generate`: prompts → clips, or single images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.shell import Shell, with_shell

if TYPE_CHECKING:
    from gridctl.generate import Task

generate_app = typer.Typer(
    help="Draw clips and images from prompts.",
    epilog='Example: gridctl generate t2v "a red circle moving right" -o out.mp4',
    no_args_is_help=True,
)

Prompt = Annotated[str | None, typer.Argument(help="What to draw.", show_default=False)]
Prompts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="One prompt per line (- for stdin), into a folder; what it has is skipped.",
    ),
]
ProfileFlag = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME|FILE", help="Where flags' defaults come from."),
]
Base = Annotated[
    str | None, typer.Option(metavar="ID|FOLDER", help="The base model.", show_default="tiny")
]
Steps = Annotated[int | None, typer.Option(help="Of the sampler.", show_default="20")]
Guidance = Annotated[float | None, typer.Option(help="FLUX.1-dev's distilled scale.")]
TrueCfgScale = Annotated[
    float | None,
    typer.Option(help="Led away from an empty prompt, in up to twice the time; 1 is off."),
]
Seed = Annotated[int | None, typer.Option(help="Of the noise.", show_default="0")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@generate_app.command("t2v")
@with_shell
def t2v(
    shell: Shell,
    prompt: Prompt = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="A .mp4, a .gif, or a folder for PNG frames."),
    ] = Path("out.mp4"),
    prompts: Prompts = None,
    adapter: Annotated[
        str | None,
        typer.Option(metavar="FILE", help='LoRA in safetensors; "none" for the bare base.'),
    ] = None,
    adapter_scale: Annotated[float | None, typer.Option(help="How strongly it acts.")] = None,
    base: Base = None,
    rows: Annotated[int | None, typer.Option(help="The adapter's, if unset.")] = None,
    cols: Annotated[int | None, typer.Option(help="The adapter's, if unset.")] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="WxH", help="The adapter's, if unset.")
    ] = None,
    order: Annotated[str | None, typer.Option(help="The adapter's, if unset.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    true_cfg_scale: TrueCfgScale = None,
    seed: Seed = None,
    fps: Annotated[float | None, typer.Option(help="The adapter's, if unset.")] = None,
    profile: ProfileFlag = None,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Text to video: draw a clip as one grid, with an adapter.

    Without an adapter the built-in model takes its own, tiny-grid.

    Example: gridctl generate t2v "a red circle moving right on a black background" -o out.mp4
    """
    grid = {"rows": rows, "cols": cols, "cell": cell, "order": order}
    _generate(
        shell,
        "t2v",
        prompt,
        prompts,
        output,
        profile=profile,
        overrides={
            **{f"grid.{field}": value for field, value in grid.items()},
            "model.adapter": adapter,
            "model.adapter_scale": adapter_scale,
            "model.base": base,
            "generate.steps": steps,
            "generate.guidance": guidance,
            "generate.true_cfg_scale": true_cfg_scale,
            "generate.seed": seed,
        },
        insist_on=[field for field, value in grid.items() if value is not None],
        fps=fps,
        dry_run=dry_run,
        force=force,
    )


@generate_app.command("image")
@with_shell
def image(
    shell: Shell,
    prompt: Prompt = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .png, .jpg or .webp.")] = Path(
        "out.png"
    ),
    prompts: Prompts = None,
    base: Base = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the picture, in pixels.")
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    true_cfg_scale: TrueCfgScale = None,
    seed: Seed = None,
    profile: ProfileFlag = None,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Draw a single image with the base model, the adapter off.

    Example: gridctl generate image "a blue star on a white background" -o star.png
    """
    _generate(
        shell,
        "image",
        prompt,
        prompts,
        output,
        profile=profile,
        overrides={
            "model.base": base,
            "generate.size": size,
            "generate.steps": steps,
            "generate.guidance": guidance,
            "generate.true_cfg_scale": true_cfg_scale,
            "generate.seed": seed,
        },
        dry_run=dry_run,
        force=force,
    )


def _generate(
    shell: Shell,
    task: Task,
    prompt: str | None,
    prompts: Path | None,
    output: Path,
    *,
    profile: str | None,
    overrides: dict[str, Any],
    insist_on: Sequence[str] = (),
    fps: float | None = None,
    dry_run: bool,
    force: bool,
) -> None:
    from gridctl.generate import draw, prepare
    from gridctl.profile import resolve_profile

    texts = _read_prompts(prompt, prompts)
    loaded = resolve_profile(profile, fallback="tiny", overrides=overrides)
    shell.note(loaded.choice)
    drawing = prepare(
        task,
        texts,
        output,
        profile=loaded.profile,
        insist={field: getattr(loaded.profile.grid, field) for field in insist_on},
        fps=fps,
        many=prompts is not None,
    )
    if dry_run:
        shell.results([drawing], {"plan": str(drawing)})
        return
    with shell.progress("draw") as progress:
        result = draw(drawing, force=force, progress=progress)
    for note in result.notes:
        shell.note(note)
    if result.skipped:
        shell.note(f"{len(result.skipped)} were there already; --force draws them again.")
    shell.results(
        result.written,
        {"written": list(result.written), "skipped": list(result.skipped)},
    )


def _read_prompts(prompt: str | None, file: Path | None) -> list[str]:
    from gridctl.errors import InputError, UsageError

    if (prompt is None) == (file is None):
        raise UsageError("give one prompt, or a file of them with --prompts.")
    if file is None:
        return [prompt or ""]
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read as UTF-8 text ({error}); check the name."
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file} holds no prompt; write one per line.")
    return lines
