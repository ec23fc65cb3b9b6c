"""Restoring: a clip with less noise and flicker, its content kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gridctl.diffusion.plan import KEEP, Plan
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import clip_drawing
from gridctl.generate.drawing import Drawing, Request, Shot
from gridctl.generate.long import check_frames
from gridctl.generate.references import fit_for, read_clip
from gridctl.generate.windows import map_windows, window_starts

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


def prepare(request: Request, *, clip: Path, frames: int | None = None) -> Drawing:
    """A clip re-noised to the profile's restore_strength and drawn again.

    An empty prompt takes the text that came with the clip. The profile's pack.sample says which
    frames are restored, as for editing; `frames` spreads that many over the clip.

    Raises InputError for a clip that cannot be read.
    """
    canvas = find_canvas(request.profile, request.insist)
    grid, strength = canvas.grid, request.profile.generate.restore_strength
    if frames is not None:
        check_frames(frames, grid.num_frames, "the grid")
    fit = fit_for(request.profile, grid)
    source = read_clip(clip, grid, fit, sample=request.profile.pack.sample, frames=frames)
    request = replace(request, prompts=tuple(p or source.text or "" for p in request.prompts))

    def make(studio: Studio, shot: Shot) -> Frames:
        def draw(frames: Frames, finished: Frames) -> Frames:
            rest = frames[len(finished) :]
            release = (KEEP,) * len(finished) + (strength,) * len(rest)
            return studio.draw(
                Plan(grid=grid, release=release),
                shot.prompt,
                shot.seed,
                reference=np.concatenate([finished, rest]),
            )

        return map_windows(source.frames, grid.num_frames, draw)

    drawing = clip_drawing(
        "restore",
        request,
        canvas,
        Plan.init(grid, strength),
        make=make,
        num_frames=len(source.frames),
        arguments={"clip": clip, "frames": frames},
    )
    return replace(
        drawing,
        reference=source.frames[: grid.num_frames],
        fps=request.fps or source.fps,
        num_grids=len(window_starts(len(source.frames), grid.num_frames)),
    )
