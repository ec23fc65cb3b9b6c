"""Preview clips: drawn by the adapter at a step, with generate's sampler and settings.

They do not change the run: they have their own random numbers, and weights are only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import sample
from gridctl.files import atomic_file
from gridctl.lora.adapters import lora_tensors
from gridctl.media.images import Frames, write_image
from gridctl.media.write import write_clip
from gridctl.models.transformer import Denoiser, unwrap
from gridctl.progress import Progress
from gridctl.train.setup import Note, Run

PREVIEWS = "previews"  # a folder in the run folder
_SHEET_FRAMES = 8  # of each clip on a contact sheet
_SHEET_CELL = 128  # pixels, the longer side
_GAP = 2


def draw_previews(run: Run, step: int, *, progress: Progress, note: Note) -> None:
    """Write `previews/step-NNNNNN/1.mp4` and so on, and a contact sheet, `step-NNNNNN.jpg`.

    Only one process draws; the others wait. If the GPU has too little memory for previews, the
    run goes on without them.
    """
    if run.is_main:
        progress(step, run.setup.total_steps, "drawing previews")
        try:
            _write(run, step, list(_draw(run)))
        except torch.OutOfMemoryError:
            note("the GPU has no memory for previews; the run goes on without them")
    run.accelerator.wait_for_everyone()


def _write(run: Run, step: int, clips: list[Frames]) -> None:
    folder = run.setup.folder / PREVIEWS
    fps = run.setup.adapter_metadata(step).fps
    for number, frames in enumerate(clips, start=1):
        path = folder / f"step-{step:06d}" / f"{number}.mp4"
        write_clip(frames, path, fps=fps, force=True)
    with atomic_file(folder / f"step-{step:06d}.jpg", force=True) as temporary:
        write_image(contact_sheet(clips), temporary, quality=85)


def _draw(run: Run) -> Iterator[Frames]:
    setup = run.setup
    grid, base, settings = setup.stages[-1].grid, setup.base, run.profile.generate
    plan = Plan.generate(grid)
    sampling = base.sampling(settings, grid)
    drawn = []
    with _as_exported(run), torch.inference_mode():
        for index, prompt in enumerate(setup.preview_prompts):
            denoise = Denoiser.of(
                base,
                unwrap(run.transformer),
                run.profile,
                setup.cache.prompt(prompt),
                setup.cache.prompt(""),
            )
            noise = base.noise_source(grid, settings.seed + index)
            drawn.append(sample(denoise, plan, noise, sampling))
    with base.vae() as vae:
        for latents in drawn:
            frames = split_cells(latents, grid)[0]
            yield vae.decode(frames, batch=run.profile.memory.decode_batch)


@contextmanager
def _as_exported(run: Run) -> Iterator[None]:
    """Put the transformer into the state that generate has: evaluating, with averaged weights."""
    transformer = unwrap(run.transformer)
    parameters = lora_tensors(transformer)

    def swap() -> None:
        for name, average in run.ema.items():
            parameter = parameters[name]
            parameter.data, run.ema[name] = average, parameter.data

    transformer.eval()
    swap()
    try:
        yield
    finally:
        swap()
        transformer.train()


def contact_sheet(clips: list[Frames]) -> Image.Image:
    """An image with a row per clip: some of its frames, from the first to the last."""
    height, width = clips[0].shape[1:3]
    scale = min(1.0, _SHEET_CELL / max(width, height))
    size = (round(width * scale), round(height * scale))
    columns = min(_SHEET_FRAMES, len(clips[0]))
    sheet = Image.new(
        "RGB", (columns * (size[0] + _GAP) - _GAP, len(clips) * (size[1] + _GAP) - _GAP), "white"
    )
    for row, frames in enumerate(clips):
        for column, index in enumerate(np.linspace(0, len(frames) - 1, columns).round()):
            frame = Image.fromarray(frames[int(index)]).resize(size)
            sheet.paste(frame, (column * (size[0] + _GAP), row * (size[1] + _GAP)))
    return sheet


def contact_sheets(folder: Path) -> dict[int, Path]:
    """The contact sheets of a run folder, by step. A link to another file is none of them."""
    sheets = {}
    for path in sorted((folder / PREVIEWS).glob("step-*.jpg")):
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            sheets[int(path.stem.removeprefix("step-"))] = path
    return sheets
