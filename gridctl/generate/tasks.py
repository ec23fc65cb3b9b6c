"""The tasks: each turns a `Request` into a `Job`, without loading a model.

Their names and arguments stand in every output's record, so `generate --from` can call them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridctl.errors import UsageError
from gridctl.generate import steps
from gridctl.generate.job import (
    AdapterSettings,
    Job,
    Request,
    adapter_settings,
    check_text,
)
from gridctl.generate.outputs import check_clip_name, check_image_name, plan_outputs
from gridctl.generate.references import fit_for, read_clip, read_picture
from gridctl.geometry import Grid
from gridctl.media.clip import sample_indices
from gridctl.media.images import Picture
from gridctl.profile import BUILT_IN, Profile
from gridctl.prompt import LAYOUTS
from gridctl.tiny.vocabulary import prompt_warnings, settings_warnings

_NOT_CLEAN = (
    "this adapter was not trained with clean cells, so what it draws continues the given frames "
    "poorly; train one with train.keep, or try --resample 3."
)


def t2v(request: Request, *, frames: int | None = None, long: str = "keyframes") -> Job:
    """Text to video: clips with the profile's adapter, on the grid that it was trained on.

    `frames` makes them longer than the grid, the way that `long` says (`steps.LONG`).

    Raises UsageError for an empty prompt, a grid that contradicts the adapter, fewer frames than
    the grid has or an output of unknown format, InputError for a missing adapter.
    """
    request.require_prompts()
    settings = adapter_settings(request.profile)
    size = settings.grid.num_frames
    count = size if frames is None else frames
    return _clip_job(
        "t2v",
        request,
        settings,
        steps.long_clip(long, count, settings.grid),
        num_frames=count,
        arguments={"frames": frames, "long": long} if count > size else {},
    )


def i2v(
    request: Request,
    *,
    first: Path | None = None,
    last: Path | None = None,
    at: Sequence[tuple[int, Path]] = (),
    frames: int | None = None,
    long: str = "keyframes",
) -> Job:
    """Image to video: clips whose first, last or other frames are given, counted from 0.

    `frames` makes them longer than the grid, the way that `long` says (`steps.LONG`).

    Raises UsageError for an empty prompt, no picture, two for one frame, a frame outside the
    clip, or more pictures than the grid has cells; InputError for a picture that cannot be read.
    """
    request.require_prompts()
    settings = adapter_settings(request.profile)
    grid = settings.grid
    count = grid.num_frames if frames is None else frames
    steps.check_frames(count, grid)
    wanted = [*at]
    wanted += [(0, first)] if first else []
    wanted += [(count - 1, last)] if last else []
    pictures = _by_frame(wanted, count)
    if len(pictures) > grid.num_frames:
        raise UsageError(
            f"{len(pictures)} pictures are given, and the grid has {grid.num_frames} cells; give "
            "no more than that."
        )
    return _clip_job(
        "i2v",
        request,
        settings,
        steps.long_clip(long, count, grid, pictures),
        references=_read_pictures(pictures, request.profile, grid),
        num_frames=count,
        arguments={"first": first, "last": last, "at": list(at), "frames": frames, "long": long},
    )


def interpolate(request: Request, *, pictures: Sequence[Path]) -> Job:
    """Clips that pass through two or more pictures, spread evenly; the prompt may be empty.

    Raises UsageError for fewer than two pictures or more than the grid has cells, InputError
    for a picture that cannot be read.
    """
    settings = adapter_settings(request.profile)
    count = settings.grid.num_frames
    if not 2 <= len(pictures) <= count:
        raise UsageError(
            f"interpolation on this grid takes 2 to {count} pictures, not {len(pictures)}; give "
            "that many."
        )
    by_frame = dict(zip(sample_indices(count, len(pictures)), pictures, strict=True))
    return _clip_job(
        "interpolate",
        request,
        settings,
        steps.one_grid(settings.grid, by_frame),
        references=_read_pictures(by_frame, request.profile, settings.grid),
        arguments={"pictures": list(pictures)},
    )


def multiview(request: Request, *, front: Path | None = None) -> Job:
    """Views of an object on one full turn; `front` is the first of them.

    Raises UsageError for an empty prompt, InputError for a picture that cannot be read.
    """
    request.require_prompts()
    settings = adapter_settings(request.profile)
    pictures = {0: front} if front else {}
    prompts = tuple(_ask_for_turn(settings, content) for content in request.prompts)
    return _clip_job(
        "multiview",
        replace(request, prompts=prompts),
        settings,
        steps.one_grid(settings.grid, pictures),
        references=_read_pictures(pictures, request.profile, settings.grid),
        arguments={"front": front},
    )


def extend(request: Request, *, clip: Path, frames: int | None = None) -> Job:
    """A clip and what follows it, `frames` in all; one more grid if unset.

    Each grid keeps the last frames of what is there. Raises UsageError for an empty prompt or
    fewer frames than the clip has, InputError for a clip that cannot be read.
    """
    request.require_prompts()
    settings = adapter_settings(request.profile)
    grid, fit = settings.grid, fit_for(request.profile, settings.grid)
    source = read_clip(clip, grid, fit, sample="windows", least=1)
    known = len(source.frames)
    count = frames
    if count is None:
        count = known + grid.num_frames - steps.num_shared(grid.num_frames, known)
    if count <= known:
        raise UsageError(f"frames is {count}, and {clip} has {known}; ask for more than that.")
    return _clip_job(
        "extend",
        request,
        settings,
        steps.windows(count, grid, finished=known),
        references=dict(enumerate(source.frames)),
        num_frames=count,
        fps=source.fps,
        arguments={"clip": clip, "frames": frames},
    )


def restore(request: Request, *, clip: Path, frames: int | None = None) -> Job:
    """A clip re-noised to the profile's restore_strength and drawn again.

    An empty prompt takes the text that came with the clip. The profile's pack.sample says which
    frames are restored, as for editing; `frames` spreads that many over the clip.

    Raises InputError for a clip that cannot be read.
    """
    profile, settings = request.profile, adapter_settings(request.profile)
    grid, fit = settings.grid, fit_for(profile, settings.grid)
    if frames is not None:
        steps.check_frames(frames, grid)
    source = read_clip(clip, grid, fit, sample=profile.pack.sample, frames=frames)
    count = len(source.frames)
    return _clip_job(
        "restore",
        replace(request, prompts=tuple(p or source.text or "" for p in request.prompts)),
        settings,
        steps.restoration(count, grid, profile.generate.restore_strength),
        references=dict(enumerate(source.frames)),
        num_frames=count,
        fps=source.fps,
        arguments={"clip": clip, "frames": frames},
    )


def edit(
    request: Request, *, clip: Path, source_prompt: str | None = None, frames: int | None = None
) -> Job:
    """Clips edited by FlowEdit, with the profile's edit_strength and edit_guidance.

    What the clip shows is said by `source_prompt`, else by the text that came with it. The
    profile's pack.sample says which frames are edited: uniform spreads a grid's over the clip,
    windows takes all. `frames` spreads that many.

    Raises UsageError for a prompt that is empty or no text, InputError for a clip that cannot be
    read.
    """
    request.require_prompts()
    check_text(source_prompt or "")
    profile = request.profile.with_values({"generate.fast": False})  # not measured for edits
    settings = adapter_settings(profile)
    grid, fit = settings.grid, fit_for(profile, settings.grid)
    if frames is not None:
        steps.check_frames(frames, grid)
    source = read_clip(clip, grid, fit, sample=profile.pack.sample, frames=frames)
    count = len(source.frames)
    content = (source.text if source_prompt is None else source_prompt) or ""
    warnings = (
        ()
        if content
        else (
            f"nothing says what {clip} shows, so more than the asked may change; say it with "
            "--source-prompt.",
        )
    )
    return _clip_job(
        "edit",
        replace(request, profile=profile),
        settings,
        steps.edit(count, grid, profile.generate.edit_strength, settings.prompt(content)),
        references=dict(enumerate(source.frames)),
        num_frames=count,
        fps=source.fps,
        arguments={"clip": clip, "source_prompt": source_prompt, "frames": frames},
        warnings=warnings,
        contents=(content,),
    )


def image(request: Request) -> Job:
    """Single images of the profile's generate.size by the base model, without an adapter.

    Raises UsageError for an empty prompt, an output of unknown format, or a best of several.
    """
    request.require_prompts()
    if request.best_of > 1:
        raise UsageError("a single image has no checks to choose by; use --num and choose.")
    if not request.many:
        check_image_name(request.output)
    # Averaging makes clips steadier; single pictures lose shape by it (docs/lab/).
    profile = request.profile.with_values({"generate.average_max_sigma": 0.0})
    grid = Grid(rows=1, cols=1, cell=profile.generate.size)
    prompts = [" ".join(prompt.split()) for prompt in request.prompts]
    return Job(
        task="image",
        profile=profile,
        adapter=None,
        grid=grid,
        num_frames=1,
        fps=profile.generate.fps,
        steps=steps.one_grid(grid),
        outputs=plan_outputs(request, prompts, ".png"),
        warnings=_built_in_warnings(profile, prompts),
    )


TASKS: dict[str, Callable[..., Job]] = {
    task.__name__: task for task in (t2v, i2v, interpolate, multiview, extend, restore, edit, image)
}


def _clip_job(
    task: str,
    request: Request,
    settings: AdapterSettings,
    planned: steps.Steps,
    *,
    references: Mapping[int, Picture] | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
    arguments: Mapping[str, Any],
    warnings: Sequence[str] = (),
    contents: Sequence[str] = (),
) -> Job:
    """A job of clips; `num_frames` is the grid's and `fps` the adapter's if unset.

    A flag for the rate wins over both. `contents` are prompts besides the request's.

    Raises UsageError for an output name that no clip can have.
    """
    profile, num_frames = request.profile, num_frames or settings.grid.num_frames
    if not request.many:
        check_clip_name(request.output, settings.grid, num_frames)
    if not settings.keep_clean and any(step.continues_frames for step in planned):
        warnings = [*warnings, _NOT_CLEAN]
    contents = [*request.prompts, *contents]
    return Job(
        task=task,
        profile=profile,
        adapter=settings.adapter,
        grid=settings.grid,
        num_frames=num_frames,
        fps=profile.generate.fps if profile.is_flag("generate.fps") else fps or settings.fps,
        steps=planned,
        outputs=plan_outputs(request, [settings.prompt(p) for p in request.prompts], ".mp4"),
        references=references or {},
        arguments=arguments,
        keep_clean=settings.keep_clean,
        best_of=request.best_of,
        warnings=(*warnings, *_built_in_warnings(profile, contents, settings.words)),
    )


def _built_in_warnings(
    profile: Profile, contents: Sequence[str], words: Sequence[str] = ()
) -> tuple[str, ...]:
    """Unknown words and unsuitable settings if the base is the built-in one, else nothing.

    `words` are those that the adapter's captions taught it.
    """
    if profile.model.base != BUILT_IN:
        return ()
    guidance, true_cfg_scale = profile.generate.guidance, profile.generate.true_cfg_scale
    return (
        *prompt_warnings(contents, words),
        *settings_warnings(guidance=guidance, true_cfg_scale=true_cfg_scale),
    )


def _read_pictures(
    pictures: Mapping[int, Path], profile: Profile, grid: Grid
) -> dict[int, Picture]:
    """The pictures by frame number, fitted to the grid's cells."""
    fit = fit_for(profile, grid)
    return {frame: read_picture(path, fit) for frame, path in pictures.items()}


def _by_frame(given: Sequence[tuple[int, Path]], count: int) -> dict[int, Path]:
    """The pictures by frame number. Raises UsageError for none, or two in one place."""
    pictures: dict[int, Path] = {}
    for frame, path in given:
        if not 0 <= frame < count:
            raise UsageError(
                f"{path} is for frame {frame}, and the frames are 0 to {count - 1}; choose one of "
                "them."
            )
        if frame in pictures:
            raise UsageError(
                f"{pictures[frame]} and {path} are both for frame {frame}; give one picture a "
                "frame."
            )
        pictures[frame] = path
    if not pictures:
        raise UsageError("no picture is given; name the clip's first frame.")
    return pictures


def _ask_for_turn(settings: AdapterSettings, content: str) -> str:
    """The prompt, with words that ask for a turn unless it or the layout prompt has them."""
    if settings.layout == LAYOUTS["turn"] or "turn" in content.split():
        return content
    return f"a full turn of {content}"
