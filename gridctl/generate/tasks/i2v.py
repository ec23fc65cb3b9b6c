"""Image to video: a clip that begins with a picture, or has pictures at any of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gridctl.diffusion.plan import Plan
from gridctl.errors import UsageError
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import NOT_CLEAN, clip_drawing
from gridctl.generate.drawing import Drawing, Request, Shot
from gridctl.generate.long import check_frames, check_long, draw_long, key_frames, num_long_grids
from gridctl.generate.references import fit_for, read_picture

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


def prepare(
    request: Request,
    *,
    first: Path | None = None,
    last: Path | None = None,
    at: Sequence[tuple[int, Path]] = (),
    frames: int | None = None,
    long: str = "keyframes",
) -> Drawing:
    """Clips whose first, last or other frames are given; frames are counted from 0.

    `frames` makes them longer than the grid, the way that `long` says.

    Raises UsageError for an empty prompt, no picture, two for one frame, a frame outside the
    clip, or more pictures than the grid has cells; InputError for a picture that cannot be read.
    """
    request.require_prompts()
    canvas = find_canvas(request.profile, request.insist)
    grid, fit = canvas.grid, fit_for(request.profile, canvas.grid)
    way = check_long(long)
    count = grid.num_frames if frames is None else frames
    check_frames(count, grid.num_frames, "the grid")
    wanted = [*at]
    wanted += [(0, first)] if first else []
    wanted += [(count - 1, last)] if last else []
    pictures = _by_frame(wanted, count)
    if len(pictures) > grid.num_frames:
        raise UsageError(
            f"{len(pictures)} pictures are given, and the grid has {grid.num_frames} cells; give "
            "no more than that."
        )
    given = {frame: read_picture(path, fit) for frame, path in pictures.items()}
    keys = list(range(grid.num_frames))
    if way == "keyframes":
        keys = key_frames(count, grid.num_frames, given)
    reference = np.zeros((grid.num_frames, *next(iter(given.values())).shape), np.uint8)
    for cell, frame in enumerate(keys):
        reference[cell] = given.get(frame, reference[cell])

    def make(studio: Studio, shot: Shot) -> Frames:
        return draw_long(studio, grid, shot.prompt, shot.seed, count=count, long=way, given=given)

    drawing = clip_drawing(
        "i2v",
        request,
        canvas,
        Plan.keep(grid, [cell for cell, frame in enumerate(keys) if frame in given]),
        reference=reference,
        make=make,
        num_frames=count,
        arguments={"first": first, "last": last, "at": list(at), "frames": frames, "long": long},
    )
    notes = () if canvas.keep else (NOT_CLEAN,)
    grids = num_long_grids(count, grid, way, given)
    return replace(drawing, num_grids=grids, frames=keys, notes=notes)


def _by_frame(given: Sequence[tuple[int, Path]], count: int) -> Mapping[int, Path]:
    pictures: dict[int, Path] = {}
    for frame, path in given:
        if not 0 <= frame < count:
            raise UsageError(
                f"{path} is for frame {frame}, and the frames are 0 to {count - 1}; choose one of "
                "them."
            )
        if frame in pictures:
            raise UsageError(
                f"{pictures[frame]} and {path} are both for frame {frame}; give one picture a "
                "frame."
            )
        pictures[frame] = path
    if not pictures:
        raise UsageError("no picture is given; name the clip's first frame.")
    return pictures
