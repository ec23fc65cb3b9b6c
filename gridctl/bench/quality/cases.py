"""Cases: scenes that training never saw, with a prompt for each, and drawing them by the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from gridctl.generate import Job, Request, render, tasks
from gridctl.generate.job import adapter_settings, find_adapter
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.media.write import write_clip
from gridctl.models.base import open_base
from gridctl.profile import Profile
from gridctl.tiny.captions import clip_caption, still_caption
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Kind, Scene, sample_scene
from gridctl.tiny.words import BACKGROUNDS, COLORS, SHAPES, STYLES

Part = Literal[
    "t2v", "turn", "base", "image", "image+adapter", "vae",
    "i2v", "interpolate", "multiview", "edit", "restore", "long keyframes", "long windows",
]  # fmt: skip
PARTS: tuple[Part, ...] = get_args(Part)
QUICK: tuple[Part, ...] = ("t2v", "image", "vae")
LONG = ("long keyframes", "long windows")
LONG_FRAMES = 96
STILLS = ("image", "image+adapter")
SOLIDS_ONLY = ("turn", "multiview")
# Motions that can be read from a clip's first and last frame.
_READ_FROM_ENDS = (
    "moving right", "moving left", "moving up", "moving down", "growing", "shrinking",
)  # fmt: skip
# Attributes that edits change, in turn; each has scores of its own.
EDITS = {
    "color": tuple(COLORS),
    "background": tuple(BACKGROUNDS),
    "shape": SHAPES,
    "style": STYLES,
}
_FLICKER = 0.15  # of the brightness, from frame to frame
_NOISE = 12.0  # 8-bit levels


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scene, and a prompt for it. An edit starts from another scene, `source`, and its prompt."""

    part: Part
    scene: Scene
    prompt: str
    index: int
    source: Scene | None = None
    source_prompt: str = ""

    @property
    def is_still(self) -> bool:
        return self.part in STILLS

    @property
    def changed(self) -> str:
        """The attribute that an edit changes."""
        return tuple(EDITS)[self.index % len(EDITS)]

    def truth(self, count: int, cell: tuple[int, int]) -> Frames:
        """The clip of a perfect model, (F, H, W, 3)."""
        return render_clip(self.scene, count, cell)

    def given(self, count: int, cell: tuple[int, int]) -> Frames:
        """The clip that a task changes or takes frames from."""
        frames = render_clip(self.source or self.scene, count, cell)
        return self._degraded(frames) if self.part == "restore" else frames

    def _degraded(self, frames: Frames) -> Frames:
        """Add flickering brightness and noise."""
        rng = np.random.default_rng((7, self.index))
        gains = 1 + _FLICKER * rng.uniform(-1, 1, (len(frames), 1, 1, 1))
        noisy = frames * gains + rng.normal(0, _NOISE, frames.shape)
        degraded: Frames = noisy.round().clip(0, 255).astype(np.uint8)
        return degraded


def make_cases(part: Part, count: int, seed: int) -> list[Case]:
    """`count` cases of a part; the first ones are the same for any count."""
    return [_make_case(part, index, seed) for index in range(count)]


def _make_case(part: Part, index: int, seed: int) -> Case:
    rng = np.random.default_rng((seed, index))
    kind: Kind = "solid" if part in SOLIDS_ONLY else "shape"
    scene = sample_scene(rng, kind=kind, held_out=True)
    while part == "interpolate" and scene.motion not in _READ_FROM_ENDS:
        scene = sample_scene(rng, kind=kind, held_out=True)
    word = still_caption if part in STILLS else clip_caption
    case = Case(part=part, scene=scene, prompt=word(scene, rng), index=index)
    if part != "edit":
        return case
    choices = [name for name in EDITS[case.changed] if name != getattr(scene, case.changed)]
    change: dict[str, Any] = {case.changed: choices[int(rng.integers(len(choices)))]}
    edited = replace(scene, **change)
    # The same wording of both: only the words for what is asked differ.
    state = int(rng.integers(2**32))
    before, after = (clip_caption(s, np.random.default_rng(state)) for s in (scene, edited))
    return replace(case, scene=edited, prompt=after, source=scene, source_prompt=before)


def draw_cases(cases: Sequence[Case], profile: Profile) -> Iterator[tuple[Case, int, Frames]]:
    """Draw cases of one part: each with its seed, counted from the profile's, and (F, H, W, 3)."""
    part = cases[0].part
    if part == "vae":
        yield from _through_vae(cases, profile)
        return
    if part == "base":
        profile = profile.with_values({"model.adapter": "none"})
    with TemporaryDirectory() as folder:
        jobs = [_prepare(case, _with_seed(profile, case.index), Path(folder)) for case in cases]
        if part == "image+adapter":
            jobs = [replace(job, adapter=find_adapter(profile)) for job in jobs]
        for case, (output, frames) in zip(cases, render(jobs), strict=True):
            yield case, output.seed, frames


def _through_vae(cases: Sequence[Case], profile: Profile) -> Iterator[tuple[Case, int, Frames]]:
    """Encode and decode the true clips."""
    grid, batch = profile.grid.to_grid(), profile.memory.decode_batch
    with open_base(profile).vae() as vae:
        for case in cases:
            frames = case.truth(grid.num_frames, grid.cell)
            latents = vae.encode(frames, batch=batch)
            yield case, 0, vae.decode(latents, batch=batch)


def _with_seed(profile: Profile, index: int) -> Profile:
    return profile.with_values({"generate.seed": profile.generate.seed + index})


def _prepare(case: Case, profile: Profile, folder: Path) -> Job:
    request = Request(prompts=(case.prompt,), output=folder / "out", profile=profile)
    if case.is_still:
        return tasks.image(replace(request, output=folder / "out.png"))
    if case.part == "long keyframes":
        return tasks.t2v(request, frames=LONG_FRAMES)
    if case.part == "long windows":
        return tasks.t2v(request, frames=LONG_FRAMES, long="windows")
    if case.part not in _FROM_FRAMES:
        return tasks.t2v(request)
    grid = adapter_settings(profile).grid
    return _FROM_FRAMES[case.part](case, request, grid, folder)


def _i2v(case: Case, request: Request, grid: Grid, folder: Path) -> Job:
    return tasks.i2v(request, first=_picture(case, grid, folder, 0))


def _interpolate(case: Case, request: Request, grid: Grid, folder: Path) -> Job:
    ends = [_picture(case, grid, folder, frame) for frame in (0, grid.num_frames - 1)]
    return tasks.interpolate(request, pictures=ends)


def _multiview(case: Case, request: Request, grid: Grid, folder: Path) -> Job:
    return tasks.multiview(request, front=_picture(case, grid, folder, 0))


def _edit(case: Case, request: Request, grid: Grid, folder: Path) -> Job:
    clip = _clip(case, grid, folder)
    return tasks.edit(request, clip=clip, source_prompt=case.source_prompt)


def _restore(case: Case, request: Request, grid: Grid, folder: Path) -> Job:
    return tasks.restore(request, clip=_clip(case, grid, folder))


_FROM_FRAMES: dict[str, Callable[[Case, Request, Grid, Path], Job]] = {
    "i2v": _i2v,
    "interpolate": _interpolate,
    "multiview": _multiview,
    "edit": _edit,
    "restore": _restore,
}


def _picture(case: Case, grid: Grid, folder: Path, frame: int) -> Path:
    path = folder / f"{case.index}-{frame}.png"
    Image.fromarray(case.given(grid.num_frames, grid.cell)[frame]).save(path)
    return path


def _clip(case: Case, grid: Grid, folder: Path) -> Path:
    path = folder / f"{case.index}"  # PNG frames: an animation would merge those that are equal
    write_clip(case.given(grid.num_frames, grid.cell), path, fps=8)
    return path
