"""`gridctl train`: captioned grids → an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.shell import Shell

_FILES, _TRAINING, _RUN = "Input and output", "Training", "Run"


def train(
    shell: Shell,
    profile: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROFILE]", help="Profile: a file or a shipped name.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset folder, as pack and caption make it.", rich_help_panel=_FILES),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Adapter file to write.",
            show_default="adapter.safetensors",
            rich_help_panel=_FILES,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="ID|FOLDER", help="Base model.", show_default="tiny", rich_help_panel=_FILES
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="ADAPTER",
            help="Start from an existing adapter of the same rank.",
            show_default="none",
            rich_help_panel=_FILES,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of optimizer steps.", rich_help_panel=_TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Grids per forward pass.", rich_help_panel=_TRAINING)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Learning rate after the warm-up.", rich_help_panel=_TRAINING),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            help="LoRA rank: adapter capacity. Memory grows with it.", rich_help_panel=_TRAINING
        ),
    ] = None,
    temporal_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the temporal loss (the paper's alpha). 0 disables it.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed.", rich_help_panel=_TRAINING)
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Start over and overwrite the adapter.", rich_help_panel=_RUN),
    ] = False,
) -> None:
    """Train an adapter on captioned grids. Run again, it resumes where it stopped.

    Checkpoints and metrics.jsonl are in a folder beside the adapter (adapter.run). Settings
    without a flag come from the profile.

    Example: gridctl train profile.toml --data vidgrid
    """
    from gridctl.profile import resolve_profile

    loaded = resolve_profile(
        profile,
        fallback="tiny",
        overrides={
            "train.data": data,
            "train.output": output,
            "model.base": base,
            "train.start": start,
            "train.steps": steps,
            "train.batch_size": batch_size,
            "train.learning_rate": learning_rate,
            "train.rank": rank,
            "train.temporal_weight": temporal_weight,
            "train.seed": seed,
        },
    )
    shell.note(loaded.choice)
    from gridctl.train import train as run  # torch: not before the profile is known to be right

    try:
        with shell.progress("train") as progress:
            result = run(loaded.profile, force=force, progress=progress, note=shell.note)
    except KeyboardInterrupt as stop:
        shell.note(str(stop) or "stopped; the same command continues from what is done")
        raise
    if result.resumed_at == result.steps:
        shell.note("the run was finished already; --force starts over")
    if result.loss is not None:
        shell.note(f"loss {result.loss:.4f}; the metrics are in {result.run_folder}")
    shell.results(
        [result.adapter],
        {
            "adapter": result.adapter,
            "run_folder": result.run_folder,
            "steps": result.steps,
            "resumed_at": result.resumed_at,
            "loss": result.loss,
        },
    )
