"""Carrying drawings out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.errors import InputError
from gridctl.files import refuse_unwritable
from gridctl.generate.drawing import Drawing, Shot
from gridctl.media.images import Frames
from gridctl.media.making import making_text
from gridctl.media.write import refuse_to_lose
from gridctl.progress import Progress, silent

if TYPE_CHECKING:
    from gridctl.generate.checks import Checks, DrawnGrid
    from gridctl.generate.making import Weights
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
class Output:
    """A file that was written, with its checks; without them it existed and was skipped.

    `notes` are remarks that no output before has.
    """

    path: Path
    checks: Checks | None = None
    notes: tuple[str, ...] = ()


def draw(
    drawings: Drawing | Sequence[Drawing], *, force: bool = False, progress: Progress | None = None
) -> GenerateResult:
    """Draw and write every shot; the model is loaded once, each file is whole or absent.

    Several drawings have one base and adapter. Outputs that were made so already are skipped.
    Raises InputError without `force` for one that was made otherwise.
    """
    several = [drawings] if isinstance(drawings, Drawing) else list(drawings)
    return collect(list(draw_each(several, force=force, progress=progress)))


def collect(outputs: Sequence[Output]) -> GenerateResult:
    """What `draw_each` has made, as `draw` returns it."""
    checks = {output.path: output.checks for output in outputs if output.checks}
    return GenerateResult(
        written=tuple(checks),
        skipped=tuple(output.path for output in outputs if not output.checks),
        notes=tuple(note for output in outputs for note in output.notes),
        checks=checks,
    )


def draw_each(
    drawings: Iterable[Drawing], *, force: bool = False, progress: Progress | None = None
) -> Iterator[Output]:
    """`draw`, an output at a time.

    Drawings of a list are checked, and their prompts encoded, before the model is loaded. Those
    of any other iterable are taken one after the other, each when the one before is drawn.
    """
    from gridctl.generate.making import Weights, making_of

    hashes: dict[tuple[str, str | None, Path | None], Weights] = {}

    def of(drawing: Drawing) -> Weights:
        model, adapter = drawing.profile.model, drawing.adapter
        key = (model.base, model.revision, adapter)
        if key not in hashes:
            hashes[key] = Weights.of(drawing.profile, adapter)
        return hashes[key]

    jobs: Iterable[tuple[Drawing, list[Path]]]
    jobs = (_unfinished(drawing, of(drawing), force=force) for drawing in drawings)
    if isinstance(drawings, list):
        jobs = list(jobs)
        drawings = [drawing for drawing, _ in jobs]
    with ExitStack() as stack:
        artist = _Artist(stack, drawings if isinstance(drawings, list) else [], progress)
        for drawing, skipped in jobs:
            yield from (Output(path=path) for path in skipped)
            for drawn in artist.draw(drawing):
                text = making_text(making_of(drawing, drawn.shot, of(drawing)))
                drawing.write(drawing, drawn.shot, drawn.frames, text, force)
                yield Output(path=drawn.shot.output, checks=drawn.checks, notes=artist.new_notes())


def render(drawing: Drawing, *, progress: Progress | None = None) -> Iterator[tuple[Shot, Frames]]:
    """Each shot with its frames (F, H, W, 3); nothing is written.

    The model is loaded when the first frames are asked for.
    """
    with ExitStack() as stack:
        for drawn in _Artist(stack, [drawing], progress).draw(drawing):
            yield drawn.shot, drawn.frames


def _unfinished(drawing: Drawing, weights: Weights, *, force: bool) -> tuple[Drawing, list[Path]]:
    """The drawing with the shots that are still to be drawn, and the outputs of the others.

    Raises InputError without `force` for an output that was made otherwise, and for a folder that
    cannot be written to.
    """
    from gridctl.generate.making import is_made, making_of

    shots: list[Shot] = []
    skipped: list[Path] = []
    for shot in drawing.shots:
        if not force and shot.output.exists():
            if is_made(shot.output, making_of(drawing, shot, weights)):
                skipped.append(shot.output)
                continue
            raise InputError(
                f"{shot.output} exists and was not made by this prompt, seed, settings and files; "
                "use --force to overwrite it, or another name."
            )
        refuse_to_lose(shot.output)
        shots.append(shot)
    for folder in dict.fromkeys(shot.output.parent for shot in shots):
        refuse_unwritable(folder)
    return replace(drawing, shots=tuple(shots)), skipped


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A shot's frames (F, H, W, 3) and their checks; `shot` has the seed that drew them."""

    shot: Shot
    frames: Frames
    checks: Checks


class _Artist:
    """Draws with a model that it loads for the first shot and keeps until `stack` closes.

    `ahead` are drawings that are known to come: their prompts are encoded before that.
    """

    def __init__(
        self, stack: ExitStack, ahead: Sequence[Drawing], progress: Progress | None
    ) -> None:
        self._stack, self._ahead, self._progress = stack, ahead, progress or silent
        self._studio: Studio | None = None
        self._grids: list[DrawnGrid] = []
        self._done, self._total = 0, sum(map(_num_steps, ahead))
        self._notes: dict[str, bool] = {}  # note → whether it was handed out

    def draw(self, drawing: Drawing) -> Iterator[_Drawn]:
        if not drawing.shots:
            return
        if not any(drawing is one for one in self._ahead):
            self._total += _num_steps(drawing)
        studio = self._open(drawing).set_up(
            drawing.profile,
            _prompts(drawing),
            num_tokens=drawing.plan.grid.num_tokens,
            keep_clean=drawing.keep_clean,
            learned=drawing.learned,
        )
        for note in (*drawing.notes, *studio.notes):
            self._notes.setdefault(note, False)
        for shot in drawing.shots:
            yield self._best(drawing, shot, studio)

    def new_notes(self) -> tuple[str, ...]:
        """The notes since the last call."""
        new = tuple(note for note, known in self._notes.items() if not known)
        self._notes = dict.fromkeys(self._notes, True)
        return new

    def _open(self, drawing: Drawing) -> Studio:
        from gridctl.generate.studio import open_studio

        if self._studio is None:
            self._progress(self._done, self._total, "loading the model")
            known = [text for one in (*self._ahead, drawing) for text in _prompts(one)]
            self._studio = self._stack.enter_context(
                open_studio(
                    drawing.profile,
                    drawing.adapter,
                    known,
                    on_step=self._on_step,
                    on_grid=self._grids.append,
                )
            )
        return self._studio

    def _best(self, drawing: Drawing, shot: Shot, studio: Studio) -> _Drawn:
        """The shot, drawn with as many seeds as it asks for; the one with the best checks."""
        from gridctl.generate.checks import check_clip

        best: _Drawn | None = None
        for seed in range(shot.seed, shot.seed + shot.best_of):
            self._grids.clear()
            attempt = replace(shot, seed=seed)
            frames = (shot.make or drawing.make)(studio, attempt)
            checks = check_clip(frames, self._grids)
            if best is None or checks.badness < best.checks.badness:
                best = _Drawn(shot=attempt, frames=frames, checks=checks)
        assert best is not None  # best_of is 1 or more
        return best

    def _on_step(self) -> None:
        self._done += 1
        self._progress(self._done, self._total, "sampling")


def _prompts(drawing: Drawing) -> list[str]:
    return [*(shot.prompt for shot in drawing.shots), *drawing.prompts]


def _num_steps(drawing: Drawing) -> int:
    from gridctl.flux.sampler import num_steps

    settings = drawing.profile.generate
    grids = sum(shot.best_of for shot in drawing.shots) * drawing.num_grids
    return grids * num_steps(settings) * settings.resample
