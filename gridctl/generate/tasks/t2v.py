"""Text to video: a clip, drawn as one grid."""

from __future__ import annotations

from gridctl.flux.plan import Plan
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import clip_drawing
from gridctl.generate.drawing import Drawing, Request


def prepare(request: Request) -> Drawing:
    """Clips with the profile's adapter, on the grid that the adapter was trained on.

    Raises UsageError for an empty prompt, a grid that contradicts the adapter or an output of
    unknown format, InputError for a missing adapter.
    """
    request.require_prompts()
    canvas = find_canvas(request.profile, request.insist)
    return clip_drawing("t2v", request, canvas, Plan.generate(canvas.grid))
