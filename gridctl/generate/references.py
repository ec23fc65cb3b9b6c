"""References: the pictures and clips that a task starts from, fitted to the grid's cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gridctl.dataset.folder import read_caption
from gridctl.dataset.grid_image import GRID_SUFFIXES, load_grid, load_metadata, split
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.media.clip import Clip, Ordinals, sample_indices
from gridctl.media.fit import Fit, parse_color
from gridctl.media.images import Frames, Picture
from gridctl.media.open import with_clip
from gridctl.media.record import read_record
from gridctl.profile import Profile
from gridctl.prompt import layout_prompt


@dataclass(frozen=True, kw_only=True)
class GivenClip:
    """A clip to change: frames (F, H, W, 3), their rate, and what is known of its content."""

    frames: Frames
    fps: float
    text: str | None


def fit_for(profile: Profile, grid: Grid) -> Fit:
    """How pictures meet a cell: as `pack` fits them."""
    pack = profile.pack
    return Fit(cell=grid.cell, mode=pack.fit, background=parse_color(pack.background))


def read_picture(path: Path, fit: Fit) -> Picture:
    """A picture as a cell (H, W, 3); of a clip, its first frame.

    Raises InputError for a file that cannot be read.
    """
    return with_clip(path, lambda clip: next(iter(clip.cells(np.zeros(1, np.int64), fit))))


def read_clip(
    path: Path,
    grid: Grid,
    fit: Fit,
    *,
    sample: str,
    frames: int | None = None,
    least: int | None = None,
) -> GivenClip:
    """The frames of a clip: as many as the grid has cells, evenly spread, or all of them.

    `sample` is uniform or windows, as `pack` takes it. `frames` of them are evenly spread
    instead. A grid image that gridctl made counts as its frames. Raises InputError for a clip
    that cannot be read or has fewer frames than `least` (the grid's) or `frames`, UsageError for
    another `sample`.
    """
    if sample not in ("uniform", "windows"):
        raise UsageError(
            f"sample {sample} is for packing; generating takes uniform, or windows for all frames."
        )
    whole = sample == "windows" and frames is None
    wanted = frames or grid.num_frames
    source = _read_grid(path, fit) if path.suffix.lower() in GRID_SUFFIXES else None
    source = source or _read_video(path, None if whole else wanted, fit)
    count = len(source.frames)
    if count < (grid.num_frames if least is None else least):
        raise InputError(
            f"{path} has {count} frames, and the grid has {grid.num_frames} cells; use a longer "
            "clip, or an adapter for a smaller grid."
        )
    if frames and count < frames:
        raise InputError(
            f"{path} has {count} frames, and {frames} are asked for; ask for {count} or fewer."
        )
    if not whole and count > wanted:
        chosen = source.frames[list(sample_indices(count, wanted))]
        return GivenClip(frames=chosen, fps=source.fps * wanted / count, text=source.text)
    return source


def _read_grid(path: Path, fit: Fit) -> GivenClip | None:
    """A grid image's real frames, each fitted by itself; None without metadata."""
    metadata = load_metadata(path)
    if metadata is None:
        return None
    image, _ = load_grid(path)
    frames = split(image, metadata.grid)[: metadata.num_frames]
    if metadata.grid.cell != fit.cell:
        frames = np.stack([fit.image(Image.fromarray(frame)) for frame in frames])
    caption = read_caption(path)
    if caption is not None:
        caption = caption.removeprefix(layout_prompt(metadata.grid, fps=metadata.fps)).strip()
    return GivenClip(frames=frames, fps=metadata.fps, text=caption or metadata.text)


def _read_video(path: Path, count: int | None, fit: Fit) -> GivenClip:
    return with_clip(path, lambda clip: _given_clip(clip, path, count, fit))


def _given_clip(clip: Clip, path: Path, count: int | None, fit: Fit) -> GivenClip:
    total = len(clip.times_seconds)
    chosen: Ordinals = np.arange(total, dtype=np.int64)
    rate = clip.fps
    if count is not None and total > count:
        chosen = chosen[list(sample_indices(total, count))]
        rate = clip.fps * count / total
    frames = np.stack([np.ascontiguousarray(cell) for cell in clip.cells(chosen, fit)])
    return GivenClip(frames=frames, fps=round(rate, 6), text=read_caption(path) or _prompt(path))


def _prompt(path: Path) -> str | None:
    """The prompt by which `generate` drew a clip; None for any other clip."""
    prompt = (read_record(path) or {}).get("prompt")
    return prompt if isinstance(prompt, str) and prompt else None
