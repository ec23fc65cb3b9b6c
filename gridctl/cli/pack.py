"""`gridctl pack`: videos or frame folders → grid images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.batch import report
from gridctl.cli.shell import Shell


def pack(
    shell: Shell,
    sources: Annotated[
        list[Path],
        typer.Argument(help="Videos, folders of frames, or folders of either.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Dataset folder.")] = Path(
        "vidgrid"
    ),
    rows: Annotated[
        int | None, typer.Option(help="Cells from top to bottom.", show_default="4")
    ] = None,
    cols: Annotated[
        int | None, typer.Option(help="Cells from left to right.", show_default="6")
    ] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="WxH", help="One cell in pixels.", show_default="256x256")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="row-major or serpentine.", show_default="row-major")
    ] = None,
    tail: Annotated[
        str | None,
        typer.Option(help="A clip shorter than the grid: error or pad.", show_default="error"),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="jpg, png or webp (both lossless).", show_default="jpg")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Of JPEG, 1 to 100.", show_default="95")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make finished grids again.")] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where flags' defaults come from.")
    ] = None,
) -> None:
    """Turn each video or folder of frames into one grid image.

    Frames are spread evenly over the whole clip, first and last included, and
    cropped to the cell. Sub-folders such as train/ and val/ stay. A text
    beside a source (clip.txt for clip.mp4) becomes the content of its
    caption. Run again, it finishes what is missing.

    Example: gridctl pack videos/ --rows 4 --cols 6
    """
    from gridctl.pack import pack as run
    from gridctl.profile import resolve_profile

    loaded = resolve_profile(
        profile,
        fallback=None,
        overrides={
            "grid.rows": rows,
            "grid.cols": cols,
            "grid.cell": cell,
            "grid.order": order,
            "pack.tail": tail,
            "pack.format": format,
            "pack.quality": quality,
        },
    )
    shell.note(loaded.choice)
    chosen = loaded.profile
    with shell.progress("pack") as progress:
        result = run(
            sources,
            output,
            grid=chosen.grid.to_grid(),
            tail=chosen.pack.tail,
            format=chosen.pack.format,
            quality=chosen.pack.quality,
            force=force,
            progress=progress,
        )
    report(shell, result, verb="packed")
