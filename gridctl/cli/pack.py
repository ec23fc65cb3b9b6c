"""`gridctl pack`: videos or frame folders → grid images."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.flags import command, flags
from gridctl.cli.shell import Shell, report
from gridctl.profile import LoadedProfile
from gridctl.storage import as_path


@command(flags("grid", "pack"))
def pack(
    shell: Shell,
    loaded: LoadedProfile,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Videos, animations, images, folders of frames, or folders of any of them. May be "
            "s3://, gs://, hf:// or https://. - reads a list of paths from stdin.",
            show_default=False,
            parser=as_path,
            metavar="SOURCES",
        ),
    ],
    shard: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Input",
            metavar="I/N",
            help="Pack the I-th of N shares of the clips, into a sub-folder. For job arrays.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            rich_help_panel="Output",
            parser=as_path,
            metavar="PATH",
            help="Dataset folder to write to. May be s3:// or gs://.",
        ),
    ] = Path("vidgrid"),
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel="Run", help="Make existing grids again.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel="Run",
            help="Print what would be written. Write nothing.",
        ),
    ] = False,
) -> None:
    """Sub-folders such as train/ and val/ are kept. The text in a file beside a source (clip.txt
    for clip.mp4) becomes the content of its caption. Run the command again to finish what is
    missing and to redo what has changed.
    """
    from gridctl.engine.shard import parse_shard
    from gridctl.pack import pack as run

    shell.note(loaded.choice)
    with shell.progress("pack", resumes="clips", lines=True) as progress:
        result = run(
            _from_stdin(sources),
            output,
            loaded.profile,
            shard=parse_shard(shard) if shard else None,
            force=force,
            dry_run=dry_run,
            progress=progress,
        )
    if result.summary:
        shell.note(f"{result.summary}.")
        if warning := result.summary.warning():
            shell.note(f"Warning: {warning}.")
    data = {"summary": asdict(result.summary) if result.summary else None}
    report(shell, result, verb="packed", data=data)


def _from_stdin(sources: list[Path]) -> list[Path]:
    """`sources`, with each - replaced by the paths on stdin."""
    from gridctl.pack.sources import read_paths

    if not any(str(source) == "-" for source in sources):
        return sources
    listed = read_paths(sys.stdin.buffer.read())
    return [path for source in sources for path in (listed if str(source) == "-" else [source])]
