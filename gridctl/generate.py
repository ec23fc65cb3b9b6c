"""`generate`: prompts → clips, or single images.

A task is a plan and a layout prompt; everything after that is shared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gridctl.errors import InputError, UsageError
from gridctl.files import atomic_file, refuse_overwrite
from gridctl.flux.adapter import AdapterFacts, apply_adapter, read_adapter_facts
from gridctl.flux.plan import Plan
from gridctl.geometry import Grid
from gridctl.machine.models import local_adapter
from gridctl.media.write import check_fps, clip_format, refuse_to_lose, write_clip
from gridctl.profile import BUILT_IN, BUILT_IN_ADAPTER, Profile
from gridctl.progress import Progress, silent
from gridctl.prompt import grid_prompt, layout_template

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gridctl.flux.base import BaseModel
    from gridctl.flux.conditioning import Conditioning
    from gridctl.flux.text import TextEncoders

Task = Literal["t2v", "image"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to draw: the whole prompt as the model reads it, and where it goes."""

    prompt: str
    seed: int
    output: Path


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A task made ready: what `draw` will do, and what `--dry-run` shows."""

    task: Task
    plan: Plan
    jobs: tuple[Job, ...]
    adapter: Path | None
    fps: float
    profile: Profile
    many: bool = False

    def __str__(self) -> str:
        lines = [
            f"base     {self.profile.model.base}",
            f"adapter  {self.adapter or 'none'}",
            f"grid     {self.plan}",
        ]
        for job in self.jobs:
            lines += [f"prompt   {job.prompt}", f"output   {job.output} (seed {job.seed})"]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The files drawn, in the order of their prompts; what lay there already is skipped."""

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    notes: tuple[str, ...]


def prepare(
    task: Task,
    prompts: Sequence[str],
    output: Path,
    *,
    profile: Profile,
    insist: Mapping[str, Any] | None = None,
    fps: float | None = None,
    many: bool = False,
) -> Drawing:
    """Turn prompts into a plan and jobs, without loading a model.

    `t2v` draws a grid with the profile's adapter. The grid is the adapter's own, the
    profile's where the adapter says nothing; `insist` holds those fields of `Grid` that must
    be so, `fps` a rate.
    `image` draws a single picture of the profile's generate.size with the adapter off. With
    `many`, `output` is a folder and files are named in order.

    Raises UsageError for a grid that contradicts the adapter, an empty prompt or an output
    of unknown format; InputError for a missing adapter.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UsageError("a prompt is empty; say what to draw.")
    if fps is not None:
        check_fps(fps)
    settings = profile.generate
    if task == "image":
        grid = Grid(rows=1, cols=1, cell=settings.size)
        adapter, known_fps, texts = None, settings.fps, [" ".join(p.split()) for p in prompts]
    else:
        adapter = find_adapter(profile)
        facts = read_adapter_facts(adapter) if adapter else None
        grid, layout, known_fps = _geometry(profile, facts, adapter, insist=insist or {})
        texts = [grid_prompt(grid, prompt, layout, fps=known_fps) for prompt in prompts]
    outputs = _outputs(task, prompts, output, many=many)
    jobs = tuple(
        Job(prompt=text, seed=settings.seed + index, output=path)
        for index, (text, path) in enumerate(zip(texts, outputs, strict=True))
    )
    return Drawing(
        task=task,
        plan=Plan.generate(grid),
        jobs=jobs,
        adapter=adapter,
        fps=fps or known_fps,
        profile=profile,
        many=many,
    )


def draw(
    drawing: Drawing, *, force: bool = False, progress: Progress | None = None
) -> GenerateResult:
    """Carry out `prepare`'s drawing: one load, every job, each file whole or absent.

    A single output that exists is refused without `force`; of many, those are skipped.
    """
    from PIL import Image

    if not drawing.many:
        refuse_overwrite(drawing.jobs[0].output, force=force)
    jobs = [job for job in drawing.jobs if force or not job.output.exists()]
    for job in jobs:
        refuse_to_lose(job.output)
    skipped = tuple(job.output for job in drawing.jobs if job not in jobs)
    notes: list[str] = []
    for job, frames in render(replace(drawing, jobs=tuple(jobs)), notes, progress=progress):
        if drawing.task == "image":
            with atomic_file(job.output, force=force) as temporary:
                Image.fromarray(frames[0]).save(temporary)
        else:
            write_clip(frames, job.output, fps=drawing.fps, force=force)
    return GenerateResult(
        written=tuple(job.output for job in jobs), skipped=skipped, notes=tuple(notes)
    )


def render(
    drawing: Drawing, notes: list[str] | None = None, *, progress: Progress | None = None
) -> Iterator[tuple[Job, npt.NDArray[np.uint8]]]:
    """Each job of `drawing` with its frames, (F, H, W, 3); nothing is written.

    The parts of the model are loaded one after the other, once for all jobs, when the first
    frames are asked for. Remarks on prompts are added to `notes`.
    """
    import torch

    from gridctl.flux.base import open_base
    from gridctl.flux.latents import decode_frames, split_cells
    from gridctl.flux.sampler import Denoiser, Sampling, draw_noise, sample

    if not drawing.jobs:
        return
    progress = progress or silent
    profile, grid = drawing.profile, drawing.plan.grid
    settings = profile.generate
    base = open_base(profile)
    encoded, empty, remarks = _encode(base, drawing.jobs, profile.model.text_tokens)
    if notes is not None:
        notes += remarks
    transformer = base.load_transformer()
    if drawing.adapter:
        apply_adapter(transformer, drawing.adapter, scale=profile.model.adapter_scale)
    sampling = Sampling.from_profile(settings, base.scheduler_config, grid.num_tokens)
    if drawing.task == "image":  # averaging helps clips; single pictures lose shape (docs/lab/)
        sampling = replace(sampling, average_max_sigma=0.0)
    total = len(drawing.jobs) * settings.steps
    with base.vae() as vae:
        for index, (job, prompt) in enumerate(zip(drawing.jobs, encoded, strict=True)):
            generator = torch.Generator().manual_seed(job.seed)
            latents = sample(
                Denoiser(transformer=transformer, prompt=prompt, empty=empty, sampling=sampling),
                drawing.plan,
                noise=draw_noise(drawing.plan, base.latent_channels, generator).to(base.device),
                generator=generator,
                on_step=lambda step, steps, done=index * settings.steps: progress(  # type: ignore[misc]
                    done + step, total, "sampling"
                ),
            )
            frames = split_cells(latents, grid)[0]
            yield job, decode_frames(vae, frames, batch=profile.memory.decode_batch)


def _encode(
    base: BaseModel, jobs: Sequence[Job], text_tokens: int | None
) -> tuple[list[Conditioning], Conditioning, list[str]]:
    """Every job's prompt, the empty one, and remarks; when it returns, the encoders are gone."""
    import torch

    with base.text_encoders(text_tokens) as encode, torch.inference_mode():
        notes = [note for job in jobs for note in _remarks(encode, job.prompt, base.name)]
        return [encode([job.prompt]) for job in jobs], encode([""]), notes


def find_adapter(profile: Profile) -> Path | None:
    """The profile's adapter as a file; None for "none", the bare base.

    The built-in base brings an adapter of its own. Raises UsageError if another base has
    none, InputError if the file is missing.
    """
    name = profile.model.adapter
    if name is None and profile.model.base == BUILT_IN:
        name = BUILT_IN_ADAPTER
    if name is None:
        raise UsageError(
            f"{profile.model.base} draws grids only with an adapter; name one with --adapter, or "
            "use --adapter none for the bare base."
        )
    if name == "none":
        return None
    path = local_adapter(name)
    if not path.is_file():
        raise InputError(
            f"{name} is no adapter file; name one that `gridctl train` has written, or another "
            "FLUX LoRA in safetensors."
        )
    return path


def _geometry(
    profile: Profile,
    facts: AdapterFacts | None,
    adapter: Path | None,
    *,
    insist: Mapping[str, Any],
) -> tuple[Grid, str, float]:
    """(grid, layout template, fps): the adapter's own, or the profile's where it has none."""
    if facts is None:
        grid = replace(profile.grid.to_grid(), **insist)
        return grid, layout_template(profile.caption.layout), profile.generate.fps
    wanted = replace(facts.grid, **insist)
    if wanted != facts.grid:
        raise UsageError(
            f"{adapter} was trained on {facts.grid}, and {wanted} is asked for; leave the grid "
            "to the adapter, or train one for this grid."
        )
    if BUILT_IN in (facts.base, profile.model.base) and facts.base != profile.model.base:
        raise UsageError(
            f"{adapter} was trained on {facts.base}, and the base is {profile.model.base}; "
            "take a profile with that base, or another adapter."
        )
    return facts.grid, facts.layout, facts.fps


def _outputs(task: Task, prompts: Sequence[str], output: Path, *, many: bool) -> list[Path]:
    suffix = ".png" if task == "image" else ".mp4"
    if many:
        if output.suffix.lower() in {".mp4", ".gif", ".png", ".jpg", ".jpeg", ".webp"}:
            raise UsageError(f"{output}: many prompts need a folder; name one with -o.")
        width = max(3, len(str(len(prompts))))
        return [
            output / f"{index:0{width}}-{_slug(prompt)}{suffix}"
            for index, prompt in enumerate(prompts, start=1)
        ]
    if task == "image":
        if output.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"}:
            raise UsageError(f"{output}: an image is written as .png, .jpg or .webp.")
    else:
        clip_format(output)
    return [output]


def _slug(prompt: str) -> str:
    """A short name for a file, from the prompt's words."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "clip"


def _remarks(encode: TextEncoders, prompt: str, base: str) -> list[str]:
    """What the user should know about a prompt that the model does not wholly read."""
    notes = []
    if lost := encode.lost_words(prompt):
        notes.append(f"the prompt is cut after {encode.text_tokens} tokens; not read: {lost}")
    if base == BUILT_IN and (unknown := encode.unknown_words(prompt)):
        notes.append(
            f"the built-in model never learned {', '.join(unknown)}: it knows coloured shapes "
            "that move. For anything else there is FLUX.1: --profile flux-dev-24gb."
        )
    return notes
