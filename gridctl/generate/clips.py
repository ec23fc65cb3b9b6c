"""What all tasks that draw clips share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gridctl.diffusion.plan import Plan
from gridctl.generate.canvas import Canvas
from gridctl.generate.drawing import Drawing, Make, Request, Shot
from gridctl.generate.outputs import check_clip_name, make_shots, write_frames
from gridctl.media.images import Frames
from gridctl.media.write import check_fps

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio

NOT_CLEAN = (
    "this adapter was not trained with clean cells, so what it draws continues the given frames "
    "poorly; train one with train.keep, or try --resample 3."
)


def clip_drawing(
    task: str,
    request: Request,
    canvas: Canvas,
    plan: Plan,
    *,
    reference: Frames | None = None,
    make: Make | None = None,
    num_frames: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Drawing:
    """A drawing of clips, each a grid by `plan` unless `make` draws it, of `num_frames`.

    `arguments` are the task's own, to be recorded.

    Raises UsageError for a rate or an output name that no clip can have.
    """
    if request.fps is not None:
        check_fps(request.fps)
    if not request.many:
        check_clip_name(request.output, canvas.grid, num_frames or canvas.grid.num_frames)

    def make_grid(studio: Studio, shot: Shot) -> Frames:
        return studio.draw(plan, shot.prompt, shot.seed, reference=reference)

    return Drawing(
        task=task,
        plan=plan,
        shots=make_shots(request, [canvas.prompt(p) for p in request.prompts], ".mp4", arguments),
        make=make or make_grid,
        write=write_frames,
        adapter=canvas.adapter,
        fps=request.fps or canvas.fps,
        profile=request.profile,
        many=request.many,
        reference=reference,
        keep_clean=bool(canvas.keep),
        notes=(NOT_CLEAN,) if plan.kept and not canvas.keep else (),
    )
