"""`gridctl unpack`: grid images → clips or frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.batch import report
from gridctl.cli.shell import Shell
from gridctl.errors import UsageError


def unpack(
    shell: Shell,
    sources: Annotated[
        list[Path],
        typer.Argument(help="Grid images, or folders of them.", show_default=False),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="One grid: clip.mp4, clip.gif, or frames/ for PNG files. Many: a folder.",
            show_default=False,
        ),
    ],
    format: Annotated[str, typer.Option(help="Of many grids' clips: mp4, gif or frames.")] = "mp4",
    fps: Annotated[
        float | None, typer.Option(help="Frames per second, if not the clip's own.")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of an image without facts.")] = None,
    cols: Annotated[int | None, typer.Option(help="Columns of an image without facts.")] = None,
    order: Annotated[
        str | None, typer.Option(help="Order of an image without facts.", show_default="row-major")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where flags' defaults come from.")
    ] = None,
) -> None:
    """Turn grid images back into clips or frames.

    An image that gridctl made knows its grid and its rate: no flags are
    needed. Frames in a folder are exact. Padded cells are left out.

    Example: gridctl unpack vidgrid/vid1.jpg -o clip.mp4
    """
    from gridctl.profile import resolve_profile
    from gridctl.unpack import unpack as run

    if format not in ("mp4", "gif", "frames"):
        raise UsageError(f"format {format!r} is unknown; choose mp4, gif or frames.")
    loaded = resolve_profile(
        profile,
        fallback=None,
        overrides={"grid.rows": rows, "grid.cols": cols, "grid.order": order},
    )
    shell.detail(loaded.choice)
    grid, said = loaded.profile.grid, loaded.origins
    with shell.progress("unpack") as progress:
        result = run(
            sources,
            output,
            # A default is no knowledge: only what a flag or a profile says of the image.
            rows=grid.rows if said["grid.rows"] != "default" else None,
            cols=grid.cols if said["grid.cols"] != "default" else None,
            order=grid.order,
            fps=fps,
            format=format,  # type: ignore[arg-type]  # checked above
            force=force,
            progress=progress,
        )
    report(shell, result, verb="unpacked")
