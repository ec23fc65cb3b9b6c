"""Pack: videos and folders of frames → grid images, one for each clip."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.media.batch import BatchResult, run_batch
from gridctl.media.dataset import read_text, write_metadata
from gridctl.media.facts import Facts
from gridctl.media.grid_image import GridFormat, check_format, compose, load_facts, save_grid
from gridctl.media.read import Picture, Tail, image_files, natural_key, read_frames
from gridctl.progress import Progress

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".webm", ".wmv",
})
# fmt: on


def pack(
    sources: Sequence[Path],
    output: Path,
    *,
    grid: Grid,
    tail: Tail = "error",
    format: GridFormat = "jpg",
    quality: int = 95,
    force: bool = False,
    progress: Progress | None = None,
) -> BatchResult:
    """Write one grid image for each clip in `sources` to the dataset folder `output`.

    A source is a video, a folder of frames, or a folder of either; sub-folders such as
    train/ and val/ stay sub-folders. A clip shorter than the grid is an error, or with
    `tail="pad"` has its last frame repeated. `clip.txt` beside `clip.mp4` travels along
    as the grid's content. Finished grids are skipped, failed clips listed in the result.

    Raises UsageError for an unknown option.
    """
    check_format(format)
    if tail not in ("error", "pad"):
        raise UsageError(f"tail {tail!r} is unknown; choose error or pad.")

    def work(source: Path, target: Path) -> bool:
        if not force and _is_done(target, source, grid):
            return False
        image, facts = pack_clip(source, grid, tail=tail)
        save_grid(image, target, facts, quality=quality, force=force)
        return True

    result = run_batch(plan_jobs(sources, output, format), work, progress)
    if result.written or result.skipped:
        write_metadata(output)
    return result


def pack_clip(source: Path, grid: Grid, *, tail: Tail = "error") -> tuple[Picture, Facts]:
    """One clip as a grid image (H, W, 3) and its facts; nothing is written."""
    clip = read_frames(source, grid, tail=tail)
    missing = grid.num_frames - len(clip.frames)
    frames = np.concatenate([clip.frames, np.repeat(clip.frames[-1:], missing, axis=0)])
    facts = Facts(
        grid=grid,
        source=_source_name(source),
        times_seconds=clip.times_seconds,
        fps=clip.fps,
        num_frames=len(clip.frames),
        text=read_text(_sidecar(source)),
    )
    return compose(frames, grid), facts


def plan_jobs(sources: Sequence[Path], output: Path, format: str) -> list[tuple[Path, Path]]:
    """(clip, grid image) for every clip in `sources`; no two grid images share a name.

    A source that turns out to be no clip is a job too: it fails with its own line.
    """
    jobs: list[tuple[Path, Path]] = []
    taken: set[str] = set()
    for source in sources:
        # What an earlier run wrote below the source is no frame folder.
        found = _clips(source, Path(), (output.resolve(),))
        for clip, folder in found or [(source, Path())]:
            for name in _names(clip):
                target = output / folder / f"{name}.{format}"
                if (key := str(target).casefold()) not in taken:  # macOS and Windows fold case
                    break
            taken.add(key)
            jobs.append((clip, target))
    return jobs


def _clips(source: Path, below: Path, parents: tuple[Path, ...] = ()) -> list[tuple[Path, Path]]:
    """(clip, its folder within the dataset) for `source` and all below it, in natural order."""
    if not source.is_dir():
        return [(source, below)]
    try:
        entries = sorted(source.iterdir(), key=natural_key)
    except OSError:
        return [(source, below.parent)]  # reading it will fail, and say why
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    videos = [entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES]
    if not videos and image_files(source):  # beside videos, images are thumbnails
        return [(source, below.parent)]
    clips: list[tuple[Path, Path]] = []
    parents = (*parents, source.resolve())
    for entry in entries:
        if entry.is_dir():
            if entry.resolve() not in parents:  # a link that leads back up would never end
                clips.extend(_clips(entry, below / entry.name, parents))
        elif entry in videos:
            clips.append((entry, below))
    return clips


def _names(clip: Path) -> Iterator[str]:
    """Names for the clip's grid, best first: vid1, then vid1-avi, then vid1-avi-2 ..."""
    if clip.is_dir():
        name = distinct = clip.resolve().name or "frames"
    else:
        name, distinct = clip.stem, f"{clip.stem}-{clip.suffix[1:].lower()}"
    name, distinct = _as_unicode(name), _as_unicode(distinct)
    yield name
    if distinct != name:
        yield distinct
    number = 2
    while True:
        yield f"{distinct}-{number}"
        number += 1


def _is_done(target: Path, source: Path, grid: Grid) -> bool:
    """Whether `target` is this very grid already; InputError if it is another one."""
    if not target.exists():
        return False
    facts = load_facts(target)
    if (
        facts
        and (facts.grid, facts.source) == (grid, _source_name(source))
        and facts.text == read_text(_sidecar(source))
    ):
        return True
    raise InputError(
        f"{target} exists, but {source}'s grid would be another (by source, grid or text); "
        "use --force, or another -o."
    )


def _sidecar(source: Path) -> Path:
    """The text beside a source: clip.txt for clip.mp4, and for a folder named clip."""
    if source.is_dir():
        source = source.absolute()  # "." has no name of its own
        return source.with_name(f"{source.name}.txt")
    return source.with_suffix(".txt")


def _source_name(source: Path) -> str:
    return _as_unicode(source.as_posix())


def _as_unicode(name: str) -> str:
    """`name`, with _ for bytes that are no UTF-8: JSON and other tools could not hold them."""
    return re.sub("[\ud800-\udfff]", "_", name)
