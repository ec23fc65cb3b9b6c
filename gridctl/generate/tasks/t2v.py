"""Text to video: a clip, drawn as one grid, or as several if it is longer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gridctl.diffusion.plan import Plan
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import NOT_CLEAN, clip_drawing
from gridctl.generate.drawing import Drawing, Request, Shot
from gridctl.generate.long import check_frames, check_long, draw_long, key_frames, num_long_grids

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


def prepare(request: Request, *, frames: int | None = None, long: str = "keyframes") -> Drawing:
    """Clips with the profile's adapter, on the grid that the adapter was trained on.

    `frames` makes them longer than the grid, the way that `long` says.

    Raises UsageError for an empty prompt, a grid that contradicts the adapter, fewer frames than
    the grid has or an output of unknown format, InputError for a missing adapter.
    """
    request.require_prompts()
    canvas = find_canvas(request.profile, request.insist)
    grid = canvas.grid
    way = check_long(long)
    count = grid.num_frames if frames is None else frames
    check_frames(count, grid.num_frames, "the grid")
    if count == grid.num_frames:
        return clip_drawing("t2v", request, canvas, Plan.generate(grid))

    def make(studio: Studio, shot: Shot) -> Frames:
        return draw_long(studio, grid, shot.prompt, shot.seed, count=count, long=way)

    drawing = clip_drawing(
        "t2v",
        request,
        canvas,
        Plan.generate(grid),
        make=make,
        num_frames=count,
        arguments={"frames": frames, "long": long},
    )
    return replace(
        drawing,
        num_grids=num_long_grids(count, grid, way),
        frames=key_frames(count, grid.num_frames, ()) if way == "keyframes" else (),
        notes=() if canvas.keep else (NOT_CLEAN,),
    )
