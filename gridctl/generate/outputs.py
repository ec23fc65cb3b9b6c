"""Outputs: their names and formats."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from gridctl.errors import UsageError
from gridctl.files import atomic_file
from gridctl.generate.drawing import Request, Shot
from gridctl.media.images import Frames
from gridctl.media.write import clip_format, write_clip

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_FILE_SUFFIXES = PICTURE_SUFFIXES | {".mp4", ".webm", ".gif", ".apng"}


def check_clip_name(path: Path) -> None:
    """UsageError for a name that no clip can have."""
    clip_format(path)


def check_picture_name(path: Path) -> None:
    """UsageError for a name that no single image can have."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"{path}: an image is written as .png, .jpg or .webp.")


def make_shots(request: Request, prompts: list[str], suffix: str) -> tuple[Shot, ...]:
    """A shot for each of `prompts`, the whole prompts of the request's; one seed each.

    With `many`, files are numbered and named by their prompt. Raises UsageError if the output
    should then be a folder and has the name of a file.
    """
    paths = [request.output]
    if request.many:
        if request.output.suffix.lower() in _FILE_SUFFIXES:
            raise UsageError(f"{request.output}: many prompts need a folder; name one with -o.")
        width = max(3, len(str(len(prompts))))
        paths = [
            request.output / f"{number:0{width}}-{_slug(content)}{suffix}"
            for number, content in enumerate(request.prompts, start=1)
        ]
    seed = request.profile.generate.seed
    return tuple(
        Shot(prompt=prompt, seed=seed + index, output=path)
        for index, (prompt, path) in enumerate(zip(prompts, paths, strict=True))
    )


def write_frames(frames: Frames, path: Path, fps: float, force: bool) -> None:
    """Write a clip in the format of its name."""
    write_clip(frames, path, fps=fps, force=force)


def write_picture(frames: Frames, path: Path, fps: float, force: bool) -> None:
    """Write a single image, the only one of `frames`."""
    with atomic_file(path, force=force) as temporary:
        Image.fromarray(frames[0]).save(temporary)


def _slug(prompt: str) -> str:
    """A short file name made of the prompt's words."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "clip"
