"""`gridctl pack`: videos or frame folders → grid images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.batch import report
from gridctl.cli.shell import Shell
from gridctl.errors import UsageError


def pack(
    shell: Shell,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Videos, animations, images, folders of frames, or folders of any of them; "
            "- reads paths from stdin.",
            show_default=False,
            readable=False,  # one that is not has its own line, and the others are done
        ),
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
    sample: Annotated[
        str | None,
        typer.Option(
            help="uniform: a grid a clip, spread over all of it. windows: grid after grid. "
            "fps=8: the same at 8 frames a second. scenes: the same, across no cut.",
            show_default="uniform",
        ),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Windows take every n-th frame.", show_default="1")
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="Frames a window shares with the one before.", show_default="0"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Leave out what is before; seconds or 1:02:03.5."),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="Leave out what is from here on.")
    ] = None,
    max_grids: Annotated[int | None, typer.Option(help="Of each clip, at most.")] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="crop (fill the cell), pad (bars) or stretch.", show_default="crop"),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOUR",
            help="Of bars, and under what is transparent; a name or #rrggbb.",
            show_default="black",
        ),
    ] = None,
    tail: Annotated[
        str | None,
        typer.Option(
            help="Frames that fill no grid: drop (and say so), pad or error.", show_default="drop"
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="jpg, png or webp (both lossless).", show_default="jpg")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Of JPEG, 1 to 100.", show_default="95")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes at once.", show_default="one a core")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do every N-th clip only, into sub-folders of its own."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written; write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Make finished grids again.")] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where flags' defaults come from.")
    ] = None,
) -> None:
    """Turn videos and folders of frames into grid images.

    Sub-folders such as train/ and val/ stay. A text beside a source (clip.txt
    for clip.mp4) becomes the content of its caption. Run again, it finishes
    what is missing, and makes again what has changed.

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
        },
    )
    shell.note(loaded.choice)
    with shell.progress("pack") as progress:
        result = run(
            _from_stdin(sources),
            output,
            loaded.profile,
            shard=_shard(shard),
            force=force,
            dry_run=dry_run,
            progress=progress,
        )
    report(shell, result, verb="packed")


def _from_stdin(sources: list[Path]) -> list[Path]:
    """`sources`, each - replaced by the paths on stdin: a line each, or NUL after each."""
    found: list[Path] = []
    for source in sources:
        if str(source) != "-":
            found.append(source)
            continue
        text = os.fsdecode(sys.stdin.buffer.read())
        if "\0" in text:
            names = text.split("\0")
        else:  # splitlines() would split names that hold a form feed or a Unicode separator
            names = [line.removesuffix("\r") for line in text.split("\n")]
        if not any(names):
            raise UsageError("stdin holds no path; pipe some in, such as find . -name '*.mp4'.")
        found.extend(Path(name) for name in names if name)
    return found


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
