"""Carrying drawings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.errors import GridctlError, InputError
from gridctl.files import refuse_unwritable
from gridctl.generate.drawing import Drawing, Shot
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.media.images import Frames
from gridctl.media.record import record_text
from gridctl.media.write import refuse_to_lose
from gridctl.profile import BUILT_IN, Profile
from gridctl.progress import Progress, silent
from gridctl.tiny.vocabulary import prompt_warnings, settings_warnings

if TYPE_CHECKING:
    from gridctl.generate.checks import Checks, DrawnGrid
    from gridctl.generate.making import Weights
    from gridctl.generate.studio import Studio

OnError = Callable[[Drawing, GridctlError], None]


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

    Several drawings share one base and adapter. All are checked before the model is loaded.
    Outputs that were made the same way before are skipped. Raises InputError without `force` for
    one that was made otherwise.
    """
    several = [drawings] if isinstance(drawings, Drawing) else list(drawings)
    return collect(list(draw_stream([several], force=force, progress=progress)))


def collect(outputs: Sequence[Output]) -> GenerateResult:
    """What `draw_stream` has made, as `draw` returns it."""
    checks = {output.path: output.checks for output in outputs if output.checks}
    return GenerateResult(
        written=tuple(checks),
        skipped=tuple(output.path for output in outputs if not output.checks),
        notes=tuple(dict.fromkeys(note for output in outputs for note in output.notes)),
        checks=checks,
    )


def draw_stream(
    groups: Iterable[Sequence[Drawing]],
    *,
    force: bool = False,
    progress: Progress | None = None,
    on_error: OnError | None = None,
) -> Iterator[Output]:
    """`draw` for drawings that come while others are drawn; yields an output at a time.

    The drawings of a group are checked, and their prompts encoded, together. `on_error` gets a
    drawing that fails, and the others are drawn. Without it the error is raised.
    """
    from gridctl.generate.making import Weights, record_of

    hashes: dict[tuple[str, str | None, Path | None], Weights] = {}

    def weights(drawing: Drawing) -> Weights:
        model, adapter = drawing.profile.model, drawing.adapter
        key = (model.base, model.revision, adapter)
        if key not in hashes:
            hashes[key] = Weights.of(drawing.profile, adapter)
        return hashes[key]

    with ExitStack() as stack:
        artist = _Artist(stack, progress)
        for group in groups:
            jobs: list[tuple[Drawing, list[Output]]] = []
            for drawing in group:
                hashed = weights(drawing)  # if this fails, no drawing can be made
                with _report(drawing, on_error):
                    jobs.append(_unfinished(drawing, hashed, force=force))
            artist.prepare([drawing for drawing, _ in jobs])
            for drawing, skipped in jobs:
                for output in skipped:
                    artist.add_notes(output.notes)
                    yield replace(output, notes=artist.new_notes())
                with _report(drawing, on_error):
                    for drawn in artist.draw(drawing):
                        text = record_text(record_of(drawing, drawn.shot, weights(drawing)))
                        drawing.write(drawing, drawn.shot, drawn.frames, text, force)
                        path, notes = drawn.shot.output, artist.new_notes()
                        yield Output(path=path, checks=drawn.checks, notes=notes)


def render(drawing: Drawing, *, progress: Progress | None = None) -> Iterator[tuple[Shot, Frames]]:
    """Each shot with its frames (F, H, W, 3); nothing is written.

    The model is loaded when the first frames are asked for.
    """
    with ExitStack() as stack:
        artist = _Artist(stack, progress)
        artist.prepare([drawing])
        for drawn in artist.draw(drawing):
            yield drawn.shot, drawn.frames


@contextmanager
def _report(drawing: Drawing, on_error: OnError | None) -> Iterator[None]:
    """Hand an error of this drawing to `on_error`, if there is one."""
    try:
        yield
    except GridctlError as error:
        if on_error is None:
            raise
        on_error(drawing, error)


def _unfinished(drawing: Drawing, weights: Weights, *, force: bool) -> tuple[Drawing, list[Output]]:
    """The drawing with the shots that are still to be drawn, and the outputs that are skipped.

    Raises InputError without `force` for an output that was made otherwise, and for a folder that
    cannot be written to.
    """
    from gridctl.generate.making import compare, record_of

    shots: list[Shot] = []
    skipped: list[Output] = []
    for shot in drawing.shots:
        if not force and shot.output.exists():
            found = compare(shot.output, record_of(drawing, shot, weights))
            if not found.is_same:
                raise InputError(
                    f"{shot.output} exists and was not made by this prompt, seed, settings and "
                    "files; use --force to overwrite it, or another name."
                )
            skipped.append(Output(path=shot.output, notes=found.notes))
            continue
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
    """Draws with a model that it loads once and keeps until `stack` closes."""

    def __init__(self, stack: ExitStack, progress: Progress | None) -> None:
        self._stack, self._progress = stack, progress or silent
        self._studio: Studio | None = None
        self._grids: list[DrawnGrid] = []
        self._done = self._total = 0
        self._notes: dict[str, bool] = {}  # note → whether it was handed out

    def prepare(self, drawings: Sequence[Drawing]) -> None:
        """Load the model, if it is not there yet, and encode the prompts of these drawings."""
        from gridctl.generate.studio import open_studio

        drawings = [drawing for drawing in drawings if drawing.shots]
        if not drawings:
            return
        prompts = [prompt for drawing in drawings for prompt in _prompts(drawing)]
        self._total += sum(map(_num_steps, drawings))
        if self._studio is not None:
            self._studio.replace_prompts(prompts)
            return
        self._progress(self._done, self._total, "loading the model")
        self._studio = self._stack.enter_context(
            open_studio(
                drawings[0].profile,
                drawings[0].adapter,
                prompts,
                on_step=self._on_step,
                on_grid=self._grids.append,
            )
        )

    def draw(self, drawing: Drawing) -> Iterator[_Drawn]:
        """The shots of a drawing that was prepared."""
        if not drawing.shots:
            return
        assert self._studio is not None
        texts = _prompts(drawing)
        studio = self._studio.set_up(
            drawing.profile,
            texts,
            num_tokens=drawing.plan.grid.num_tokens,
            keep_clean=drawing.keep_clean,
        )
        warnings = built_in_warnings(drawing.profile, drawing.adapter, texts)
        self.add_notes((*drawing.notes, *studio.notes, *warnings))
        for shot in drawing.shots:
            yield self._best(drawing, shot, studio)

    def add_notes(self, notes: Sequence[str]) -> None:
        """Notes for the next output, unless one before had them."""
        for note in notes:
            self._notes.setdefault(note, False)

    def new_notes(self) -> tuple[str, ...]:
        """The notes since the last call."""
        new = tuple(note for note, known in self._notes.items() if not known)
        self._notes = dict.fromkeys(self._notes, True)
        return new

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


def built_in_warnings(profile: Profile, adapter: Path | None, prompts: Iterable[str]) -> list[str]:
    """Unknown words and unsuitable settings if the base is the built-in one, else nothing."""
    if profile.model.base != BUILT_IN:
        return []
    metadata = read_adapter_metadata(adapter) if adapter else None
    scales = profile.generate.guidance, profile.generate.true_cfg_scale
    return [
        *prompt_warnings(prompts, metadata.words if metadata else ()),
        *settings_warnings(guidance=scales[0], true_cfg_scale=scales[1]),
    ]


def _prompts(drawing: Drawing) -> list[str]:
    return [*(shot.prompt for shot in drawing.shots), *drawing.prompts]


def _num_steps(drawing: Drawing) -> int:
    from gridctl.diffusion.sampler import num_steps

    settings = drawing.profile.generate
    grids = sum(shot.best_of for shot in drawing.shots) * drawing.num_grids
    return grids * num_steps(settings) * settings.resample
