"""`gridctl train`: captioned grids → an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.shell import Shell


def train(
    shell: Shell,
    profile: Annotated[
        str | None,
        typer.Argument(metavar="[PROFILE]", help="A profile's file or name.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset folder, as pack and caption leave it.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The adapter.", show_default="adapter.safetensors"),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="ID|FOLDER", help="The base model.", show_default="tiny")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="ADAPTER", help="Begin with its weights, of the same rank."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Grids per forward pass.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="After the warm-up.")] = None,
    rank: Annotated[int | None, typer.Option(help="Of the LoRA.")] = None,
    temporal_weight: Annotated[
        float | None, typer.Option(help="Of the temporal loss, the paper's alpha.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn by lot.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start over, and replace the adapter.")
    ] = False,
) -> None:
    """Train an adapter on captioned grids; run again, it goes on where it stopped.

    The run's checkpoints and log.jsonl lie in a folder beside the adapter.

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
            result = run(loaded.profile, force=force, progress=progress)
    except KeyboardInterrupt:
        shell.note("stopped; the same command goes on from the last checkpoint")
        raise
    if result.resumed_at == result.steps:
        shell.note("the run was finished already; --force starts over")
    elif result.resumed_at:
        shell.note(f"went on at step {result.resumed_at} of {result.steps}")
    if result.loss is not None:
        shell.note(f"loss {result.loss:.4f}; the log is in {result.run_folder}")
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
