"""Extending: a clip, continued."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gridctl.diffusion.plan import Plan
from gridctl.errors import UsageError
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import clip_drawing
from gridctl.generate.drawing import Drawing, Request, Shot
from gridctl.generate.long import check_overlap, continue_clip
from gridctl.generate.references import fit_for, read_clip
from gridctl.generate.windows import OVERLAP

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


def prepare(request: Request, *, clip: Path, frames: int | None = None) -> Drawing:
    """A clip and what follows it, `frames` in all; one more grid if unset.

    Each grid keeps the last frames of what is there. Raises UsageError for an empty prompt or
    fewer frames than the clip has, InputError for a clip that cannot be read.
    """
    request.require_prompts()
    canvas = find_canvas(request.profile, request.insist)
    grid = canvas.grid
    check_overlap(grid)
    source = read_clip(clip, grid, fit_for(request.profile, grid), sample="windows", least=1)
    shared = min(OVERLAP, grid.num_frames // 2, len(source.frames))
    added = grid.num_frames - shared
    count = len(source.frames) + added if frames is None else frames
    if count <= len(source.frames):
        raise UsageError(
            f"frames is {count}, and {clip} has {len(source.frames)}; ask for more than that."
        )

    def make(studio: Studio, shot: Shot) -> Frames:
        return continue_clip(studio, grid, shot.prompt, shot.seed, known=source.frames, count=count)

    plan, start = Plan.keep(grid, range(shared)), len(source.frames) - shared
    reference = np.zeros((grid.num_frames, *source.frames.shape[1:]), np.uint8)
    reference[:shared] = source.frames[start:]
    drawing = clip_drawing(
        "extend",
        request,
        canvas,
        plan,
        make=make,
        num_frames=count,
        arguments={"clip": clip, "frames": frames},
    )
    return replace(
        drawing,
        reference=reference,
        frames=range(start, start + grid.num_frames),
        fps=request.fps or source.fps,
        num_grids=ceil((count - len(source.frames)) / added),
    )
