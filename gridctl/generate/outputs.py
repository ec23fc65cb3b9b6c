"""Output files: their names, seeds and formats."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from gridctl.dataset.grid_image import compose, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import UsageError
from gridctl.files import atomic_file
from gridctl.formats import CLIP_SUFFIXES, PICTURE_SUFFIXES
from gridctl.generate.job import Job, Output, Request
from gridctl.geometry import Grid
from gridctl.media.images import Frames, write_image
from gridctl.media.record import add_record
from gridctl.media.write import clip_format, write_clip

_GRID_SUFFIXES = frozenset(PICTURE_SUFFIXES) - CLIP_SUFFIXES.keys()  # .webp is an animation


def check_clip_name(path: Path, grid: Grid, num_frames: int) -> None:
    """Raise UsageError for a name that no clip can have, or a grid image for several grids."""
    if path.suffix.lower() not in _GRID_SUFFIXES:
        clip_format(path)
    elif num_frames > grid.num_frames:
        raise UsageError(
            f"{path} would be a grid image with room for {grid.num_frames} frames, and the clip "
            f"has {num_frames}; write .mp4, .webp or a folder."
        )


def check_image_name(path: Path) -> None:
    """Raise UsageError for a name that no single image can have."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"{path}: an image is written as .png, .jpg or .webp.")


def plan_outputs(request: Request, prompts: list[str], suffix: str) -> tuple[Output, ...]:
    """An output for each of `prompts`, the whole prompts of the request's; one seed each.

    With `many`, files are numbered and named by their prompt. Raises UsageError if the output
    should then be a folder and has the name of a file.
    """
    paths = [request.output]
    if request.many:
        if request.output.suffix.lower() in (*PICTURE_SUFFIXES, *CLIP_SUFFIXES):
            raise UsageError(f"{request.output}: several outputs need a folder; name one with -o.")
        digits = max(request.digits, len(str(request.number + len(prompts) - 1)))
        paths = [
            request.output / f"{number:0{digits}}-{_slug(content)}{suffix}"
            for number, content in enumerate(request.prompts, start=request.number)
        ]
    first = request.profile.generate.seed
    seeds = request.seeds or range(first, first + len(prompts))
    return tuple(
        Output(prompt=prompt, content=content, seed=seed, path=path)
        for content, prompt, path, seed in zip(request.prompts, prompts, paths, seeds, strict=True)
    )


def _slug(prompt: str) -> str:
    """A short file name made of the prompt's words."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "clip"


def write_output(job: Job, output: Output, frames: Frames, record: str, *, force: bool) -> None:
    """Write frames (F, H, W, 3) in the format of the output's name, with their record.

    A clip as .png or .jpg is a grid image with metadata.
    """
    path = output.path
    is_grid = path.suffix.lower() in _GRID_SUFFIXES and not job.is_image
    if not is_grid and not job.is_image:
        write_clip(frames, path, fps=job.fps, force=force, record=record)
        return
    with atomic_file(path, force=force) as temporary:
        if is_grid:
            metadata = GridMetadata(
                grid=job.grid,
                source=path.name,
                times_seconds=tuple(round(k / job.fps, 6) for k in range(len(frames))),
                fps=job.fps,
                num_frames=len(frames),
                text=output.content or None,
            )
            save_grid(compose(frames, job.grid), temporary, metadata, force=True)
        else:
            write_image(Image.fromarray(frames[0]), temporary)
        add_record(temporary, record)
