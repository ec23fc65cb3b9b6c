"""Image to video: a clip that begins with a picture, or has pictures at any of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gridctl.errors import UsageError
from gridctl.flux.plan import Plan
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import clip_drawing
from gridctl.generate.drawing import Drawing, Request
from gridctl.generate.references import fit_for, place_pictures
from gridctl.geometry import Grid


def prepare(
    request: Request,
    *,
    first: Path | None = None,
    last: Path | None = None,
    at: Sequence[tuple[int, Path]] = (),
) -> Drawing:
    """Clips whose first, last or other frames are given; frames are counted from 0.

    Raises UsageError for an empty prompt, no picture, two for one frame, or a frame outside
    the grid; InputError for a picture that cannot be read.
    """
    request.require_prompts()
    canvas = find_canvas(request.profile, request.insist)
    given = [*at]
    given += [(0, first)] if first else []
    given += [(canvas.grid.num_frames - 1, last)] if last else []
    pictures = _by_frame(given, canvas.grid)
    return clip_drawing(
        "i2v",
        request,
        canvas,
        Plan.keep(canvas.grid, pictures),
        reference=place_pictures(pictures, canvas.grid, fit_for(request.profile, canvas.grid)),
        arguments={"first": first, "last": last, "at": list(at)},
    )


def _by_frame(given: Sequence[tuple[int, Path]], grid: Grid) -> Mapping[int, Path]:
    pictures: dict[int, Path] = {}
    for frame, path in given:
        if not 0 <= frame < grid.num_frames:
            raise UsageError(
                f"{path} is for frame {frame}, and the frames are 0 to {grid.num_frames - 1}; "
                "choose one of them."
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
