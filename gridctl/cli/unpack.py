"""`gridctl unpack`: grid images → clips or frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.batch import report
from gridctl.cli.shell import Shell


def unpack(
    shell: Shell,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Grid images, or folders of them.",
            show_default=False,
            readable=False,  # one that is not has its own line, and the others are done
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="One clip: clip.mp4, .webm, .gif, .webp, .apng, or frames/. Many: a folder.",
            show_default=False,
        ),
    ],
    format: Annotated[
        str,
        typer.Option(
            help="Of many clips: mp4, webm, gif, webp, apng; frames (PNG) or jpg (frames too)."
        ),
    ] = "mp4",
    codec: Annotated[
        str | None, typer.Option(help="mp4: h264, hevc or av1. webm: vp9 or av1.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(help="Of mp4 and webm: 0 is best; near-lossless if left out.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second, if not the clip's own.")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of an image without facts.")] = None,
    cols: Annotated[int | None, typer.Option(help="Columns of an image without facts.")] = None,
    order: Annotated[
        str | None, typer.Option(help="Order of an image without facts.", show_default="row-major")
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Find rows and columns of such an image by its seams.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where flags' defaults come from.")
    ] = None,
) -> None:
    """Turn grid images back into clips or frames.

    An image that gridctl made knows its grid and its rate: no flags are
    needed. The grids of one clip become one clip again. Frames in a folder
    are exact. Padded cells are left out.

    Example: gridctl unpack vidgrid/vid1.jpg -o clip.mp4
    """
    from gridctl.profile import resolve_profile
    from gridctl.unpack import unpack as run

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
            detect=detect,
            format=format,  # type: ignore[arg-type]  # it is checked there
            codec=codec,
            crf=crf,
            force=force,
            progress=progress,
        )
    report(shell, result, verb="unpacked")
