"""Editing: a clip changed to what a prompt says, its motion and everything else kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.diffusion.plan import Plan
from gridctl.generate.canvas import find_canvas
from gridctl.generate.clips import clip_drawing
from gridctl.generate.drawing import Drawing, Request, Shot, check_text
from gridctl.generate.long import check_frames, check_overlap
from gridctl.generate.references import fit_for, read_clip
from gridctl.generate.windows import window_starts
from gridctl.geometry import Grid
from gridctl.media.clip import sample_indices

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


def prepare(
    request: Request, *, clip: Path, source_prompt: str | None = None, frames: int | None = None
) -> Drawing:
    """Clips edited by FlowEdit, with the profile's edit_strength and edit_guidance.

    What the clip shows is said by `source_prompt`, else by the text that came with it. The
    profile's pack.sample says which frames are edited: uniform spreads a grid's over the clip,
    windows takes all. `frames` spreads that many.

    Raises UsageError for a prompt that is empty or no text, InputError for a clip that cannot be
    read.
    """
    request.require_prompts()
    profile = request.profile.with_values({"generate.fast": False})  # not measured for edits
    request = replace(request, profile=profile)
    canvas = find_canvas(request.profile, request.insist)
    fit = fit_for(request.profile, canvas.grid)
    if frames is not None:
        check_frames(frames, canvas.grid.num_frames, "the grid")
    source = read_clip(clip, canvas.grid, fit, sample=request.profile.pack.sample, frames=frames)
    check_text(source_prompt or "")
    said = source.text if source_prompt is None else source_prompt
    source_text = canvas.prompt(said or "")

    def make(studio: Studio, shot: Shot) -> Frames:
        return _edit(studio, source.frames, canvas.grid, (source_text, shot.prompt), shot.seed)

    strength = request.profile.generate.edit_strength
    drawing = clip_drawing(
        "edit",
        request,
        canvas,
        Plan.init(canvas.grid, strength),
        make=make,
        num_frames=len(source.frames),
        arguments={"clip": clip, "source_prompt": source_prompt, "frames": frames},
    )
    notes = (
        ()
        if said
        else (
            f"nothing says what {clip} shows, so more than the asked may change; say it with "
            "--source-prompt.",
        )
    )
    keys = sample_indices(len(source.frames), canvas.grid.num_frames)
    return replace(
        drawing,
        reference=source.frames[list(keys)],
        frames=keys,
        fps=request.fps or source.fps,
        prompts=(source_text,),
        num_grids=1 + len(_windows(len(source.frames), canvas.grid)),
        notes=notes,
    )


def _windows(count: int, grid: Grid) -> list[int]:
    """Where the grids between key frames begin. There are none in a clip of one grid."""
    if count <= grid.num_frames:
        return []
    check_overlap(grid)
    return window_starts(count, grid.num_frames, 1)


def _edit(studio: Studio, frames: Frames, grid: Grid, texts: tuple[str, str], seed: int) -> Frames:
    """A clip, edited: frames spread over all of it first, then those between them.

    So the first grid sees the whole motion. Windows one after the other see parts of it, which
    the prompt makes larger, and jump where one follows another (docs/lab/).
    """
    count, size = len(frames), grid.num_frames
    keys = sample_indices(count, size)
    edited: Frames = frames.copy()
    edited[list(keys)] = studio.edit(frames[list(keys)], grid, texts, seed)
    known = set(keys)
    for start in _windows(count, grid):
        window = range(start, start + size)
        finished = {frame - start: edited[frame] for frame in window if frame in known}
        if len(finished) < size:
            edited[start : start + size] = studio.edit(
                frames[start : start + size], grid, texts, seed, finished=finished
            )
        known.update(window)
    return edited
