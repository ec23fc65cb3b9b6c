"""Outputs: their names and formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from gridctl.dataset.grid_image import compose, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import UsageError
from gridctl.files import atomic_file
from gridctl.generate.drawing import Drawing, Request, Shot
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.media.record import add_record
from gridctl.media.write import clip_format, write_clip

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_GRID_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})  # .webp is an animation
_FILE_SUFFIXES = PICTURE_SUFFIXES | {".mp4", ".webm", ".gif", ".apng"}


def check_clip_name(path: Path, grid: Grid, num_frames: int) -> None:
    """UsageError for a name that no clip can have, or a grid image for more than a grid."""
    if path.suffix.lower() not in _GRID_SUFFIXES:
        clip_format(path)
    elif num_frames > grid.num_frames:
        raise UsageError(
            f"{path} would be a grid image with room for {grid.num_frames} frames, and the clip "
            f"has {num_frames}; write .mp4, .webp or a folder."
        )


def check_picture_name(path: Path) -> None:
    """UsageError for a name that no single image can have."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"{path}: an image is written as .png, .jpg or .webp.")


def make_shots(
    request: Request,
    prompts: list[str],
    suffix: str,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[Shot, ...]:
    """A shot for each of `prompts`, the whole prompts of the request's; one seed each.

    With `many`, files are numbered and named by their prompt. Raises UsageError if the output
    should then be a folder and has the name of a file.
    """
    paths = [request.output]
    if request.many:
        if request.output.suffix.lower() in _FILE_SUFFIXES:
            raise UsageError(f"{request.output}: several outputs need a folder; name one with -o.")
        digits = max(request.digits, len(str(request.number + len(prompts) - 1)))
        paths = [
            request.output / f"{number:0{digits}}-{_slug(content)}{suffix}"
            for number, content in enumerate(request.prompts, start=request.number)
        ]
    first = request.profile.generate.seed
    seeds = request.seeds or range(first, first + len(prompts))
    return tuple(
        Shot(
            prompt=prompt,
            seed=seed,
            output=path,
            content=content,
            arguments=arguments or {},
            best_of=request.best_of,
        )
        for content, prompt, path, seed in zip(request.prompts, prompts, paths, seeds, strict=True)
    )


def write_frames(drawing: Drawing, shot: Shot, frames: Frames, record: str, force: bool) -> None:
    """Write a clip in the format of its name; .png and .jpg are a grid image with metadata."""
    path, grid = shot.output, drawing.plan.grid
    if path.suffix.lower() not in _GRID_SUFFIXES:
        write_clip(frames, path, fps=drawing.fps, force=force, record=record)
        return
    metadata = GridMetadata(
        grid=grid,
        source=path.name,
        times_seconds=tuple(round(frame / drawing.fps, 6) for frame in range(len(frames))),
        fps=drawing.fps,
        num_frames=len(frames),
        text=shot.content or None,
    )
    with atomic_file(path, force=force) as temporary:
        save_grid(compose(frames, grid), temporary, metadata, force=True)
        add_record(temporary, record)


def write_picture(drawing: Drawing, shot: Shot, frames: Frames, record: str, force: bool) -> None:
    """Write a single image, the only one of `frames`."""
    with atomic_file(shot.output, force=force) as temporary:
        Image.fromarray(frames[0]).save(temporary)
        add_record(temporary, record)


def _slug(prompt: str) -> str:
    """A short file name made of the prompt's words."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "clip"
