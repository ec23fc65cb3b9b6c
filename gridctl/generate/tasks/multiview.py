"""Multi-view: a full turn around an object, from a picture of it or from a prompt alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gridctl.diffusion.plan import Plan
from gridctl.generate.canvas import Canvas, find_canvas
from gridctl.generate.clips import clip_drawing
from gridctl.generate.drawing import Drawing, Request
from gridctl.generate.references import fit_for, place_pictures
from gridctl.prompt import LAYOUTS


def prepare(request: Request, *, front: Path | None = None) -> Drawing:
    """Views of an object on one full turn; `front` is the first of them.

    Raises UsageError for an empty prompt, InputError for a picture that cannot be read.
    """
    request.require_prompts()
    canvas = find_canvas(request.profile, request.insist)
    plan, reference = Plan.generate(canvas.grid), None
    if front:
        plan = Plan.keep(canvas.grid, {0})
        reference = place_pictures({0: front}, canvas.grid, fit_for(request.profile, canvas.grid))
    return clip_drawing(
        "multiview",
        replace(request, prompts=tuple(_turn(canvas, p) for p in request.prompts)),
        canvas,
        plan,
        reference=reference,
        arguments={"front": front},
    )


def _turn(canvas: Canvas, content: str) -> str:
    """The prompt, with words that ask for a turn unless it or the layout prompt has them."""
    if canvas.layout == LAYOUTS["turn"] or "turn" in content.split():
        return content
    return f"a full turn of {content}"
