"""Interpolation: a clip that passes through given pictures, the first and the last at its ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gridctl.diffusion.plan import Plan
from gridctl.errors import UsageError
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import clip_drawing
from gridctl.generate.drawing import Drawing, Request
from gridctl.generate.references import fit_for, place_pictures
from gridctl.media.clip import sample_indices


def prepare(request: Request, *, pictures: Sequence[Path]) -> Drawing:
    """Clips between two or more pictures, spread evenly; the prompt may be empty.

    Raises UsageError for fewer than two pictures or more than the grid has cells, InputError
    for a picture that cannot be read.
    """
    canvas = find_canvas(request.profile, request.insist)
    count = canvas.grid.num_frames
    if not 2 <= len(pictures) <= count:
        raise UsageError(
            f"interpolation on this grid takes 2 to {count} pictures, not {len(pictures)}; give "
            "that many."
        )
    by_frame = dict(zip(sample_indices(count, len(pictures)), pictures, strict=True))
    return clip_drawing(
        "interpolate",
        request,
        canvas,
        Plan.keep(canvas.grid, by_frame),
        reference=place_pictures(by_frame, canvas.grid, fit_for(request.profile, canvas.grid)),
        arguments={"pictures": list(pictures)},
    )
