"""`gridctl train`: captioned grids → an adapter."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated, Any

import typer

from gridctl.cli.flags import command, flags, profiles
from gridctl.cli.shell import Shell
from gridctl.errors import UsageError
from gridctl.profile import LoadedProfile


@command(
    flags("model.base", "train"),
    fallback="tiny",
    profile=typer.Argument(
        metavar="[PROFILE]",
        help="Profile: a file or a shipped name.",
        show_default=False,
        autocompletion=profiles,
    ),
)
def train(
    shell: Shell,
    loaded: LoadedProfile,
    prepare_only: Annotated[
        bool,
        typer.Option(
            "--prepare-only",
            rich_help_panel="Run",
            help="Check the data, encode all grids and captions into the cache, and stop.",
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Run",
            metavar="I/N",
            help="With --prepare-only: encode the I-th of N shares, for machines with one cache.",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            rich_help_panel="Run",
            help="Print data, steps, parameters and GPU memory by part, and stop.",
        ),
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Run",
            metavar="STEP|last",
            help="Write the adapter of a checkpoint of the run, and stop. Also while it runs.",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            rich_help_panel="Run",
            help="Write the run's report.html, and stop. Also while it runs.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", rich_help_panel="Run", help="Start over and overwrite the adapter."
        ),
    ] = False,
) -> None:
    """Checkpoints, metrics.jsonl, previews and report.html are in a folder beside the adapter
    (adapter.run). Settings without a flag come from the profile.
    """
    if not _speaks():
        shell = replace(shell, quiet=True)
    if shard is not None and not prepare_only:
        raise UsageError("--shard is a share of --prepare-only; give both.")
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
    from gridctl.engine.shard import parse_shard
    from gridctl.train import prepare

    with shell.progress("prepare", lines=True) as progress:
        result = prepare(
            profile, shard=parse_shard(shard) if shard else None, progress=progress, note=shell.note
        )
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
