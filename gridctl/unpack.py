"""Unpack: grid images → clips or folders of frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gridctl.errors import InputError, UsageError
from gridctl.files import refuse_overwrite
from gridctl.geometry import Grid, Order
from gridctl.media.batch import BatchResult, run_batch
from gridctl.media.dataset import list_grids
from gridctl.media.grid_image import load_grid, split
from gridctl.media.read import IMAGE_SEQUENCE_FPS, Frames
from gridctl.media.write import ClipFormat, check_fps, clip_format, write_clip
from gridctl.progress import Progress

_SUFFIXES: dict[ClipFormat, str] = {"mp4": ".mp4", "gif": ".gif", "frames": ""}


def unpack(
    sources: Sequence[Path],
    output: Path | str,
    *,
    rows: int | None = None,
    cols: int | None = None,
    order: Order = "row-major",
    fps: float | None = None,
    format: ClipFormat = "mp4",
    force: bool = False,
    progress: Progress | None = None,
) -> BatchResult:
    """Write the clip of each grid image; cells that were padding are left out.

    One image goes to `output`, whose name says what it becomes. A folder, or several
    images, go into the folder `output`, each as `format` under its own name; what is there
    already is skipped. `rows`, `cols` and `order` are for images without facts, `fps` for
    another rate than the facts'.

    Raises UsageError for an unknown suffix or rate, InputError if a folder holds no image.
    """
    if fps is not None:
        check_fps(fps)
    if len(sources) == 1 and not sources[0].is_dir():
        clip_format(output)
        jobs = [(sources[0], Path(output))]
        named = output  # a trailing slash is lost in a Path
    else:
        jobs, named = _plan_jobs(sources, Path(output), format), None

    def work(source: Path, target: Path) -> bool:
        if named is None and target.exists() and not force:
            return False
        refuse_overwrite(target, force=force)
        frames, rate = _read_grid(source, rows, cols, order)
        name = _as_named(target, format) if named is None else named
        write_clip(frames, name, fps=rate if fps is None else fps, force=force)
        return True

    return run_batch(jobs, work, progress)


def _plan_jobs(
    sources: Sequence[Path], output: Path, format: ClipFormat
) -> list[tuple[Path, Path]]:
    if format not in _SUFFIXES:
        raise UsageError(f"format {format!r} is unknown; choose {', '.join(_SUFFIXES)}.")
    if output.suffix.lower() in (".mp4", ".gif"):
        raise UsageError(
            f"{output} names one clip, but a folder or several grids become many; "
            f"use -o {output.stem}/ --format {output.suffix[1:]}."
        )
    jobs: list[tuple[Path, Path]] = []
    taken: set[Path] = set()
    for source in sources:
        root = source if source.is_dir() else source.parent
        for image in list_grids(source) if source.is_dir() else [source]:
            name = output / image.relative_to(root).parent / image.stem
            target = name.with_name(name.name + _SUFFIXES[format])
            if target in taken:  # vid1.jpg and vid1.png, or two folders with a vid1
                raise UsageError(
                    f"{image} and another grid would both become {target}; unpack them apart."
                )
            taken.add(target)
            jobs.append((image, target))
    return jobs


def _as_named(target: Path, format: ClipFormat) -> str:
    return f"{target}/" if format == "frames" else str(target)  # frames of take.1 → take.1/


def _read_grid(
    path: Path, rows: int | None, cols: int | None, order: Order
) -> tuple[Frames, float]:
    """The real frames (F, H, W, 3) of a grid image, and their rate."""
    image, facts = load_grid(path)
    if facts:
        return split(image, facts.grid)[: facts.num_frames], facts.fps
    if rows is None or cols is None:
        raise InputError(
            f"{path} has no gridctl facts, so its grid is unknown; say --rows and --cols."
        )
    height, width = image.shape[:2]
    if rows < 1 or cols < 1 or height % rows or width % cols:
        raise InputError(
            f"{path} is {width}x{height} pixels, which {rows} rows and {cols} columns do not "
            "divide; say the grid's own --rows and --cols."
        )
    grid = Grid(rows=rows, cols=cols, cell=(width // cols, height // rows), order=order)
    return split(image, grid), IMAGE_SEQUENCE_FPS
