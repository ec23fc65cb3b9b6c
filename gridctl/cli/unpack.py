"""`gridctl unpack`: grid images → clips or frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.batch import report
from gridctl.cli.shell import Shell
from gridctl.storage import as_path

INPUT, OUTPUT, RUN = "Images from elsewhere", "Output", "Run"
FORMATS = ["mp4", "webm", "gif", "webp", "apng", "frames", "jpg"]


def unpack(
    shell: Shell,
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
            rich_help_panel=OUTPUT,
            help="Clip to write: NAME.mp4, .webm, .gif, .webp or .apng, or NAME/ for frames. "
            "Several grids go into a folder of this name.",
            show_default=False,
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="Format of the clips in a folder: mp4, webm, gif, webp, apng, frames (PNG) or "
            "jpg (JPEG frames).",
            show_default="mp4",
            autocompletion=lambda: FORMATS,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="Frame rate.",
            show_default="the clip's own",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="Video codec. mp4: h264, hevc or av1. webm: vp9 or av1.",
            show_default="h264, vp9",
            autocompletion=lambda: ["h264", "hevc", "av1", "vp9"],
        ),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="Quality of mp4 and webm: 0 is best, larger numbers give smaller files.",
            show_default="near-lossless",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(rich_help_panel=INPUT, help="Number of cells from top to bottom."),
    ] = None,
    cols: Annotated[
        int | None,
        typer.Option(rich_help_panel=INPUT, help="Number of cells from left to right."),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=INPUT,
            help="Path of the frames through the cells: row-major or serpentine.",
            show_default="row-major",
            autocompletion=lambda: ["row-major", "serpentine"],
        ),
    ] = None,
    detect: Annotated[
        bool,
        typer.Option(
            "--detect", rich_help_panel=INPUT, help="Guess rows and columns from the pixels."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=RUN, help="Overwrite existing files.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            rich_help_panel=RUN,
            help="Profile with the defaults of these flags.",
        ),
    ] = None,
) -> None:
    """Turn grid images back into clips or frames.

    An image that gridctl made knows its grid and its frame rate, so no flags are needed. Grids
    of one clip become one clip again, and padding is left out. Frames in a folder, WebP and
    APNG are lossless.

    Example: gridctl unpack vidgrid/vid1.jpg -o clip.mp4
    """
    from gridctl.profile import resolve_profile
    from gridctl.unpack import unpack as run

    loaded = resolve_profile(
        profile,
        fallback=None,
        overrides={
            "grid.rows": rows,
            "grid.cols": cols,
            "grid.order": order,
            "unpack.format": format,
            "unpack.fps": fps,
            "unpack.codec": codec,
            "unpack.crf": crf,
        },
    )
    shell.detail(loaded.choice)
    with shell.progress("unpack", resumes="clips") as progress:
        result = run(sources, output, loaded.profile, detect=detect, force=force, progress=progress)
    report(shell, result, verb="unpacked")
