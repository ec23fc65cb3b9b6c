"""Carrying a drawing out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gridctl.errors import InputError
from gridctl.generate.drawing import Drawing, Shot
from gridctl.media.images import Frames
from gridctl.media.making import making_text
from gridctl.media.write import refuse_to_lose
from gridctl.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The files written, in the order of their prompts; those that existed are skipped."""

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    notes: tuple[str, ...]


def draw(
    drawing: Drawing, *, force: bool = False, progress: Progress | None = None
) -> GenerateResult:
    """Draw and write every shot; the model is loaded once, each file is whole or absent.

    Outputs that were made so already are skipped. Raises InputError without `force` for one that
    was made otherwise.
    """
    from gridctl.generate.making import Weights, is_made, making_of

    weights = Weights.of(drawing.profile, drawing.adapter)
    makings = [making_of(drawing, shot, weights) for shot in drawing.shots]
    shots, texts = [], []
    for shot, making in zip(drawing.shots, makings, strict=True):
        if not force and shot.output.exists():
            if is_made(shot.output, making):
                continue
            raise InputError(
                f"{shot.output} exists and was not made by this prompt, seed, settings and files; "
                "use --force to overwrite it, or another name."
            )
        refuse_to_lose(shot.output)
        shots.append(shot)
        texts.append(making_text(making))
    notes: list[str] = []
    drawn = render(replace(drawing, shots=tuple(shots)), notes, progress=progress)
    for text, (shot, frames) in zip(texts, drawn, strict=True):
        drawing.write(drawing, shot, frames, text, force)
    return GenerateResult(
        written=tuple(shot.output for shot in shots),
        skipped=tuple(shot.output for shot in drawing.shots if shot not in shots),
        notes=tuple(notes),
    )


def render(
    drawing: Drawing, notes: list[str] | None = None, *, progress: Progress | None = None
) -> Iterator[tuple[Shot, Frames]]:
    """Each shot with its frames (F, H, W, 3); nothing is written.

    The model is loaded when the first frames are asked for. Remarks on prompts are added to
    `notes`.
    """
    from gridctl.generate.studio import open_studio

    if not drawing.shots:
        return
    report = progress or silent
    settings = drawing.profile.generate
    grids = len(drawing.shots) * drawing.num_grids
    total, done = grids * settings.steps * settings.resample, 0

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
    ) as studio:
        if notes is not None:
            notes.extend((*drawing.notes, *studio.notes))
        for shot in drawing.shots:
            yield shot, drawing.make(studio, shot)
