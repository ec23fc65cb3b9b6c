"""Carrying a drawing out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.errors import InputError
from gridctl.generate.drawing import Drawing, Shot
from gridctl.media.images import Frames
from gridctl.media.making import making_text
from gridctl.media.write import refuse_to_lose
from gridctl.progress import Progress, silent

if TYPE_CHECKING:
    from gridctl.generate.checks import Checks, DrawnGrid
    from gridctl.generate.studio import Studio


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The files written, in the order of their prompts, and what their checks found.

    Files that existed are skipped.
    """

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    notes: tuple[str, ...]
    checks: dict[Path, Checks] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A shot's frames (F, H, W, 3) and their checks; `shot` has the seed that drew them."""

    shot: Shot
    frames: Frames
    checks: Checks


def draw(
    drawing: Drawing, *, force: bool = False, progress: Progress | None = None
) -> GenerateResult:
    """Draw and write every shot; the model is loaded once, each file is whole or absent.

    Outputs that were made so already are skipped. Raises InputError without `force` for one that
    was made otherwise.
    """
    from gridctl.generate.making import Weights, is_made, making_of

    weights = Weights.of(drawing.profile, drawing.adapter)
    shots = []
    for shot in drawing.shots:
        if not force and shot.output.exists():
            if is_made(shot.output, making_of(drawing, shot, weights)):
                continue
            raise InputError(
                f"{shot.output} exists and was not made by this prompt, seed, settings and files; "
                "use --force to overwrite it, or another name."
            )
        refuse_to_lose(shot.output)
        shots.append(shot)
    notes: list[str] = []
    checks: dict[Path, Checks] = {}
    for drawn in _draw(replace(drawing, shots=tuple(shots)), notes, progress):
        text = making_text(making_of(drawing, drawn.shot, weights))
        drawing.write(drawing, drawn.shot, drawn.frames, text, force)
        checks[drawn.shot.output] = drawn.checks
    return GenerateResult(
        written=tuple(shot.output for shot in shots),
        skipped=tuple(shot.output for shot in drawing.shots if shot not in shots),
        notes=tuple(notes),
        checks=checks,
    )


def render(drawing: Drawing, *, progress: Progress | None = None) -> Iterator[tuple[Shot, Frames]]:
    """Each shot with its frames (F, H, W, 3); nothing is written.

    The model is loaded when the first frames are asked for.
    """
    for drawn in _draw(drawing, [], progress):
        yield drawn.shot, drawn.frames


def _draw(drawing: Drawing, notes: list[str], progress: Progress | None) -> Iterator[Drawn]:
    """Each shot, drawn; remarks on the drawing and its prompts are added to `notes`."""
    from gridctl.generate.studio import open_studio

    if not drawing.shots:
        return
    report = progress or silent
    settings = drawing.profile.generate
    grids = sum(shot.best_of for shot in drawing.shots) * drawing.num_grids
    total, done = grids * settings.steps * settings.resample, 0
    drawn_grids: list[DrawnGrid] = []

    def on_step() -> None:
        nonlocal done
        done += 1
        report(done, total, "sampling")

    prompts = [*(shot.prompt for shot in drawing.shots), *drawing.prompts]
    with open_studio(
        drawing.profile,
        drawing.adapter,
        prompts,
        num_tokens=drawing.plan.grid.num_tokens,
        keep_clean=drawing.keep_clean,
        learned=drawing.learned,
        on_step=on_step,
        on_grid=drawn_grids.append,
    ) as studio:
        notes.extend((*drawing.notes, *studio.notes))
        for shot in drawing.shots:
            yield _best(drawing, shot, studio, drawn_grids)


def _best(drawing: Drawing, shot: Shot, studio: Studio, grids: list[DrawnGrid]) -> Drawn:
    """The shot, drawn with as many seeds as it asks for; the one with the best checks."""
    from gridctl.generate.checks import check_clip

    best: Drawn | None = None
    for seed in range(shot.seed, shot.seed + shot.best_of):
        grids.clear()
        attempt = replace(shot, seed=seed)
        frames = (shot.make or drawing.make)(studio, attempt)
        drawn = Drawn(shot=attempt, frames=frames, checks=check_clip(frames, grids))
        if best is None or drawn.checks.badness < best.checks.badness:
            best = drawn
    assert best is not None  # best_of is 1 or more
    return best
