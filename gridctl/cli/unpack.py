"""`gridctl unpack`: grid images → clips or frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.flags import command, flags
from gridctl.cli.shell import Shell, report
from gridctl.errors import listed
from gridctl.formats import CLIP_SUFFIXES
from gridctl.profile import LoadedProfile
from gridctl.storage import as_path

_FOREIGN = "Images from elsewhere"


@command(
    flags("grid.rows", "grid.cols", panel=_FOREIGN, default=""),
    flags("grid.order", panel=_FOREIGN),
    flags("unpack"),
)
def unpack(
    shell: Shell,
    loaded: LoadedProfile,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Grid images, or folders of them. May be s3://, gs://, hf:// or https://.",
            show_default=False,
            parser=as_path,
            metavar="SOURCES",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            rich_help_panel="Output",
            help=f"Clip to write: {listed(CLIP_SUFFIXES)}, or NAME/ for a folder of frames. "
            "Several grids go into a folder of this name.",
            show_default=False,
        ),
    ],
    detect: Annotated[
        bool,
        typer.Option(
            "--detect", rich_help_panel=_FOREIGN, help="Guess rows and columns from the pixels."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel="Run", help="Overwrite existing files.")
    ] = False,
) -> None:
    """An image that gridctl made knows its grid and its frame rate, so no flags are needed. Grids
    of one clip become one clip again, and padding is left out. Frames in a folder, WebP and
    APNG are lossless.
    """
    from gridctl.unpack import unpack as run

    shell.detail(loaded.choice)
    with shell.progress("unpack", resumes="clips") as progress:
        result = run(sources, output, loaded.profile, detect=detect, force=force, progress=progress)
    report(shell, result, verb="unpacked")
