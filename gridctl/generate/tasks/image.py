"""Single images by the base model, without an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.diffusion.plan import Plan
from gridctl.errors import UsageError
from gridctl.generate.drawing import Drawing, Request, Shot
from gridctl.generate.outputs import check_picture_name, make_shots, write_picture
from gridctl.geometry import Grid

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


def prepare(request: Request) -> Drawing:
    """A picture of the profile's generate.size for each prompt.

    Raises UsageError for an empty prompt, an output of unknown format, or a best of several.
    """
    request.require_prompts()
    if request.best_of > 1:
        raise UsageError("a single image has no checks to choose by; use --num and choose.")
    if not request.many:
        check_picture_name(request.output)
    # Averaging makes clips steadier; single pictures lose shape by it (docs/lab/).
    profile = request.profile.with_values({"generate.average_max_sigma": 0.0})
    plan = Plan.generate(Grid(rows=1, cols=1, cell=profile.generate.size))

    def make(studio: Studio, shot: Shot) -> Frames:
        return studio.draw(plan, shot.prompt, shot.seed)

    return Drawing(
        task="image",
        plan=plan,
        shots=make_shots(request, [" ".join(p.split()) for p in request.prompts], ".png"),
        make=make,
        write=write_picture,
        adapter=None,
        fps=profile.generate.fps,
        profile=profile,
        many=request.many,
    )
