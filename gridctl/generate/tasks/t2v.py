"""Text to video: a clip, drawn as one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.flux.plan import Plan
from gridctl.generate.canvas import find_canvas
from gridctl.generate.drawing import Drawing, Request, Shot
from gridctl.generate.outputs import check_clip_name, make_shots, write_frames
from gridctl.media.write import check_fps

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


def prepare(request: Request) -> Drawing:
    """Clips with the profile's adapter, on the grid that the adapter was trained on.

    Raises UsageError for a grid that contradicts the adapter or an output of unknown format,
    InputError for a missing adapter.
    """
    canvas = find_canvas(request.profile, request.insist)
    if request.fps is not None:
        check_fps(request.fps)
    if not request.many:
        check_clip_name(request.output)
    plan = Plan.generate(canvas.grid)

    def make(studio: Studio, shot: Shot) -> Frames:
        return studio.draw(plan, shot.prompt, shot.seed)

    return Drawing(
        task="t2v",
        plan=plan,
        shots=make_shots(request, [canvas.prompt(p) for p in request.prompts], ".mp4"),
        make=make,
        write=write_frames,
        adapter=canvas.adapter,
        fps=request.fps or canvas.fps,
        profile=request.profile,
        many=request.many,
        learned=canvas.words,
    )
