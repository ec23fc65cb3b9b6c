"""`gridctl pack`: videos or frame folders → grid images."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli import complete
from gridctl.cli.batch import report
from gridctl.cli.shell import Shell
from gridctl.errors import UsageError
from gridctl.storage import as_path

_input = partial(typer.Option, rich_help_panel="Input")
_grid = partial(typer.Option, rich_help_panel="Grid")
_sampling = partial(typer.Option, rich_help_panel="Sampling")
_output = partial(typer.Option, rich_help_panel="Output")
_run = partial(typer.Option, rich_help_panel="Run")


def pack(
    shell: Shell,
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
    start: Annotated[
        str | None,
        _input(
            metavar="TIME",
            help="Time in each clip to start at: seconds, or 1:02:03.5.",
            show_default="0",
        ),
    ] = None,
    end: Annotated[
        str | None,
        _input(
            metavar="TIME", help="Time in each clip to stop at.", show_default="the end of the clip"
        ),
    ] = None,
    shard: Annotated[
        str | None,
        _input(
            metavar="I/N",
            help="Pack every N-th clip from the I-th on, into a sub-folder. For job arrays.",
        ),
    ] = None,
    sample: Annotated[
        str | None,
        _sampling(
            help="Frames to take from a clip. uniform: one grid per clip, spread over all of it. "
            "windows: consecutive frames, as many grids as the clip fills. fps=8: the same at 8 "
            "frames a second. scenes: windows that cross no cut.",
            show_default="uniform",
            autocompletion=complete.samples,
        ),
    ] = None,
    stride: Annotated[
        int | None, _sampling(help="Take every n-th frame of a window.", show_default="1")
    ] = None,
    overlap: Annotated[
        int | None,
        _sampling(help="Frames that a window shares with the one before.", show_default="0"),
    ] = None,
    max_grids: Annotated[
        int | None, _sampling(help="Most grids to make from one clip.", show_default="no limit")
    ] = None,
    tail: Annotated[
        str | None,
        _sampling(
            help="Frames left over that do not fill a grid: drop them and say so, pad the grid "
            "with the last frame, or report an error.",
            show_default="drop",
            autocompletion=complete.choices("pack.tail"),
        ),
    ] = None,
    rows: Annotated[
        int | None, _grid(help="Number of cells from top to bottom.", show_default="4")
    ] = None,
    cols: Annotated[
        int | None, _grid(help="Number of cells from left to right.", show_default="6")
    ] = None,
    cell: Annotated[
        str | None,
        _grid(
            metavar="WxH",
            help="Size of one cell in pixels, multiples of 16.",
            show_default="256x256",
        ),
    ] = None,
    order: Annotated[
        str | None,
        _grid(
            help="Path of the frames through the cells: row-major or serpentine.",
            show_default="row-major",
            autocompletion=complete.choices("grid.order"),
        ),
    ] = None,
    fit: Annotated[
        str | None,
        _grid(
            help="How a frame fills a cell of another shape: crop the sides, pad with bars, or "
            "stretch.",
            show_default="crop",
            autocompletion=complete.choices("pack.fit"),
        ),
    ] = None,
    background: Annotated[
        str | None,
        _grid(
            metavar="COLOR",
            help="Color of bars and of transparent pixels: a name or #rrggbb.",
            show_default="black",
        ),
    ] = None,
    output: Annotated[
        Path,
        _output(
            "-o",
            "--output",
            parser=as_path,
            metavar="PATH",
            help="Dataset folder to write to. May be s3:// or gs://.",
        ),
    ] = Path("vidgrid"),
    format: Annotated[
        str | None,
        _output(
            help="File format of the grids: jpg, png or webp. png and webp are lossless.",
            show_default="jpg",
            autocompletion=complete.choices("pack.format"),
        ),
    ] = None,
    quality: Annotated[
        int | None, _output(help="JPEG quality, 1 to 100.", show_default="95")
    ] = None,
    to: Annotated[
        str | None,
        _output(
            help="Where grids are stored. folder: image files. webdataset, parquet: also in a few "
            "large files beside the folder, with the captions that it has by then.",
            show_default="folder",
            autocompletion=complete.choices("pack.to"),
        ),
    ] = None,
    max_shard_megabytes: Annotated[
        int | None, _output(help="Size limit of each large file.", show_default="500")
    ] = None,
    force: Annotated[bool, _output("--force", help="Make existing grids again.")] = False,
    dry_run: Annotated[
        bool, _run("--dry-run", help="Print what would be written. Write nothing.")
    ] = False,
    workers: Annotated[
        int | None, _run(help="Number of processes.", show_default="one per CPU core")
    ] = None,
    engine: Annotated[
        str | None,
        _run(
            help="Where clips are packed. local: processes on this machine. ray: tasks on a Ray "
            "cluster.",
            show_default="local",
            autocompletion=complete.choices("pack.engine"),
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        _run(
            metavar="ADDRESS",
            help="Ray cluster, such as auto or head:6379.",
            show_default="start one on this machine",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        _run(
            metavar="NAME|FILE",
            help="Profile with the settings that flags do not set.",
            autocompletion=complete.profiles,
        ),
    ] = None,
) -> None:
    """Turn videos and folders of frames into grid images.

    Sub-folders such as train/ and val/ are kept. The text in a file beside a source (clip.txt
    for clip.mp4) becomes the content of its caption. Run the command again to finish what is
    missing and to redo what has changed.

    Example: gridctl pack videos/ --sample fps=8
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
            "pack.sample": sample,
            "pack.stride": stride,
            "pack.overlap": overlap,
            "pack.start": _seconds(start),
            "pack.end": _seconds(end),
            "pack.max_grids": max_grids,
            "pack.fit": fit,
            "pack.background": background,
            "pack.tail": tail,
            "pack.format": format,
            "pack.quality": quality,
            "pack.workers": workers,
            "pack.to": to,
            "pack.max_shard_megabytes": max_shard_megabytes,
            "pack.engine": engine,
            "pack.ray_address": ray_address,
        },
    )
    shell.note(loaded.choice)
    with shell.progress("pack", resumes="clips", lines=True) as progress:
        result = run(
            _from_stdin(sources),
            output,
            loaded.profile,
            shard=_shard(shard),
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


def _seconds(text: str | None) -> float | None:
    """`90`, `1:30` or `0:01:30.0` → seconds."""
    if text is None:
        return None
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or any(not 0 <= part < 1e7 for part in parts):
        raise UsageError(f"time {text!r} is unknown; write seconds, or 1:02:03.5.")
    return sum((part * 60.0**power for power, part in enumerate(reversed(parts))), 0.0)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal()):
        raise UsageError(f"shard {text!r} is unknown; write 1/8 for the first of eight.")
    return int(first), int(second)
