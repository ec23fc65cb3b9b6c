"""Drawing the cases of a part with gridctl's own tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from gridctl.bench.quality.cases import LONG_FRAMES, Case
from gridctl.generate import Drawing, Request, combine, render
from gridctl.generate.canvas import find_adapter, find_canvas
from gridctl.generate.tasks import edit, i2v, image, interpolate, multiview, restore, t2v
from gridctl.geometry import Grid
from gridctl.media.images import Frames
from gridctl.media.write import write_clip
from gridctl.models.base import open_base
from gridctl.models.latents import decode_frames, encode_frames
from gridctl.profile import Profile


def draw_cases(cases: Sequence[Case], profile: Profile) -> Iterator[tuple[Case, int, Frames]]:
    """Each case with its seed and frames (F, H, W, 3); seeds count on from the profile's."""
    part = cases[0].part
    if part == "vae":
        yield from _through_vae(cases, profile)
        return
    if part == "base":
        model = profile.model.model_copy(update={"adapter": "none"})
        profile = profile.model_copy(update={"model": model})
    with TemporaryDirectory() as folder:
        drawing = combine(
            [_prepare(case, _with_seed(profile, case.index), Path(folder)) for case in cases]
        )
        if part == "image+adapter":
            drawing = replace(drawing, adapter=find_adapter(profile))
        drawn = render(drawing)
        for case, (shot, frames) in zip(cases, drawn, strict=True):
            yield case, shot.seed, frames


def _through_vae(cases: Sequence[Case], profile: Profile) -> Iterator[tuple[Case, int, Frames]]:
    """True clips, encoded and decoded."""
    grid, batch = profile.grid.to_grid(), profile.memory.decode_batch
    with open_base(profile).vae() as vae:
        for case in cases:
            frames = case.truth(grid.num_frames, grid.cell)
            latents = encode_frames(vae, frames, batch=batch)
            yield case, 0, decode_frames(vae, latents, batch=batch)


def _with_seed(profile: Profile, index: int) -> Profile:
    settings = profile.generate.model_copy(update={"seed": profile.generate.seed + index})
    return profile.model_copy(update={"generate": settings})


def _prepare(case: Case, profile: Profile, folder: Path) -> Drawing:
    request = Request(prompts=(case.prompt,), output=folder / "out", profile=profile)
    if case.is_still:
        return image.prepare(replace(request, output=folder / "out.png"))
    if case.part == "long keyframes":
        return t2v.prepare(request, frames=LONG_FRAMES)
    if case.part == "long windows":
        return t2v.prepare(request, frames=LONG_FRAMES, long="windows")
    if case.part not in _FROM_FRAMES:
        return t2v.prepare(request)
    grid = find_canvas(profile, {}).grid
    return _FROM_FRAMES[case.part](case, request, grid, folder)


def _i2v(case: Case, request: Request, grid: Grid, folder: Path) -> Drawing:
    return i2v.prepare(request, first=_picture(case, grid, folder, 0))


def _interpolate(case: Case, request: Request, grid: Grid, folder: Path) -> Drawing:
    ends = [_picture(case, grid, folder, frame) for frame in (0, grid.num_frames - 1)]
    return interpolate.prepare(request, pictures=ends)


def _multiview(case: Case, request: Request, grid: Grid, folder: Path) -> Drawing:
    return multiview.prepare(request, front=_picture(case, grid, folder, 0))


def _edit(case: Case, request: Request, grid: Grid, folder: Path) -> Drawing:
    clip = _clip(case, grid, folder)
    return edit.prepare(request, clip=clip, source_prompt=case.source_prompt)


def _restore(case: Case, request: Request, grid: Grid, folder: Path) -> Drawing:
    return restore.prepare(request, clip=_clip(case, grid, folder))


_FROM_FRAMES: dict[str, Callable[[Case, Request, Grid, Path], Drawing]] = {
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
