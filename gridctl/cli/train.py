"""`gridctl train`: captioned grids → an adapter."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gridctl.cli import complete
from gridctl.cli.shell import Shell
from gridctl.errors import UsageError
from gridctl.storage import as_path

_files = partial(typer.Option, rich_help_panel="Input and output")
_training = partial(typer.Option, rich_help_panel="Training")
_run = partial(typer.Option, rich_help_panel="Run")


def train(
    shell: Shell,
    profile: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROFILE]",
            help="Profile: a file or a shipped name.",
            show_default=False,
            autocompletion=complete.profiles,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        _files(
            parser=as_path,
            metavar="PATH",
            help="Dataset folder, as pack and caption make it. May be s3://, gs:// or hf://.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        _files("-o", "--output", help="Adapter to write.", show_default="adapter.safetensors"),
    ] = None,
    base: Annotated[
        str | None, _files(metavar="ID|FOLDER", help="Base model.", show_default="tiny")
    ] = None,
    start: Annotated[
        Path | None,
        _files(
            metavar="ADAPTER",
            help="LoRA file to start from, from gridctl or another tool. Its rank is at most "
            "--rank.",
            show_default="none",
        ),
    ] = None,
    steps: Annotated[
        int | None, _training(help="Number of optimizer steps.", show_default="tiny: 600")
    ] = None,
    batch_size: Annotated[
        int | None, _training(help="Grids per forward pass.", show_default="tiny: 16")
    ] = None,
    learning_rate: Annotated[
        float | None,
        _training(help="Learning rate after the warm-up.", show_default="tiny: 0.002"),
    ] = None,
    rank: Annotated[
        int | None,
        _training(
            help="LoRA rank: capacity of the adapter. Memory grows with it.",
            show_default="tiny: 32",
        ),
    ] = None,
    temporal_weight: Annotated[
        float | None,
        _training(
            help="Weight of the temporal loss (the paper's alpha). 0 disables it.",
            show_default="tiny: 0.1",
        ),
    ] = None,
    seed: Annotated[int | None, _training(help="Random seed.", show_default="tiny: 0")] = None,
    preview_every: Annotated[
        int | None,
        _run(
            metavar="STEPS",
            help="Draw preview clips every so many steps, as generate would draw them.",
            show_default="none",
        ),
    ] = None,
    prepare_only: Annotated[
        bool,
        _run(
            "--prepare-only",
            help="Check the data, encode all grids and captions into the cache, and stop.",
        ),
    ] = False,
    plan: Annotated[
        bool,
        _run("--plan", help="Print data, steps, parameters and GPU memory by part, and stop."),
    ] = False,
    shard: Annotated[
        str | None,
        _run(
            metavar="I/N",
            help="With --prepare-only: encode the I-th of N shares, for machines with one cache.",
        ),
    ] = None,
    export: Annotated[
        str | None,
        _run(
            metavar="STEP|last",
            help="Write the adapter of a checkpoint of the run, and stop. Also while it runs.",
        ),
    ] = None,
    report: Annotated[
        bool,
        _run("--report", help="Write the run's report.html, and stop. Also while it runs."),
    ] = False,
    force: Annotated[bool, _run("--force", help="Start over and overwrite the adapter.")] = False,
) -> None:
    """Train an adapter on captioned grids. The same command resumes a run that stopped.

    Checkpoints, metrics.jsonl, previews and report.html are in a folder beside the adapter
    (adapter.run). Settings without a flag come from the profile.

    Example: gridctl train profile.toml --data vidgrid
    """
    from gridctl.profile import resolve_profile

    if not _speaks():
        shell = replace(shell, quiet=True)
    if shard is not None and not prepare_only:
        raise UsageError("--shard is a share of --prepare-only; give both.")
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
            "train.preview_every": preview_every,
        },
    )
    shell.note(loaded.choice)
    if plan:
        _plan(shell, loaded.profile)
    elif prepare_only:
        _prepare(shell, loaded.profile, shard)
    elif report:
        _report(shell, loaded.profile)
    elif export is not None:
        _export(shell, loaded.profile, export, force=force)
    else:
        _train(shell, loaded.profile, force=force)


def _train(shell: Shell, profile: Any, *, force: bool) -> None:
    from gridctl.train import train as run  # torch: not before the profile is known to be right

    try:
        with shell.progress("train", lines=True) as progress:
            result = run(profile, force=force, progress=progress, note=shell.note)
    except KeyboardInterrupt as stop:
        shell.note(str(stop) or "stopped before the first step; the same command continues")
        raise
    if result.resumed_at == result.steps:
        shell.note("the run was finished already; --force starts over")
    if result.loss is not None:
        shell.note(f"loss {result.loss:.4f}; see {result.run_folder}/report.html")
    if not _speaks():
        return
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


def _speaks() -> bool:
    """Whether this process prints: accelerate and torchrun start the command once a process."""
    return os.environ.get("RANK", "0") == "0"


def _plan(shell: Shell, profile: Any) -> None:
    from dataclasses import asdict

    from gridctl.train import plan_run

    with shell.progress("plan") as progress:
        result = plan_run(profile, progress=progress)
    memory = {**asdict(result.memory), "peak": result.memory.peak}
    shell.results(result.lines(), {"datasets": result.datasets, "memory_gib": memory})


def _prepare(shell: Shell, profile: Any, shard: str | None) -> None:
    from gridctl.train import prepare

    with shell.progress("prepare", lines=True) as progress:
        result = prepare(profile, shard=_shard(shard), progress=progress, note=shell.note)
    shell.results(
        [f"{result.encoded} encoded"], {"encoded": result.encoded, "datasets": result.datasets}
    )


def _export(shell: Shell, profile: Any, step: str, *, force: bool) -> None:
    if step != "last" and not step.isdecimal():
        raise UsageError(f"--export {step} is no step; write a number such as 250, or last.")
    from gridctl.train import export_checkpoint

    path = export_checkpoint(profile, None if step == "last" else int(step), force=force)
    shell.results([path], {"adapter": path})


def _report(shell: Shell, profile: Any) -> None:
    from gridctl.train import report

    path = report(profile)
    shell.results([path], {"report": path})


def _shard(text: str | None) -> tuple[int, int]:
    """`2/8` → (1, 8)."""
    if text is None:
        return 0, 1
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise UsageError(f"shard {text!r} is unknown; write 1/8 for the first of eight.")
    return int(first) - 1, int(count)
