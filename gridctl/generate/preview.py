"""A picture of a job: which cells of each grid are given, which are drawn, and from what."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gridctl.errors import UsageError, listed
from gridctl.files import atomic_file
from gridctl.formats import PICTURE_SUFFIXES
from gridctl.generate.job import Job
from gridctl.generate.steps import GridStep

_INK, _PAPER, _EMPTY = "#202020", "#ffffff", "#e4e4e4"
_COLORS = {"generate": "#8a8a8a", "keep": "#1b8a3a", "init": "#d9730d", "edit": "#7a3db8"}
_MEANINGS = {
    "generate": "drawn from noise",
    "keep": "not changed",
    "init": "changed from a noise level",
    "edit": "changed by FlowEdit",
}
_MIN_WIDTH = 560  # pixels: room for the legend
_SIDES = (96, 192)  # pixels, the least and the most of a cell's width
_GAP, _LINE = 8, 20


def write_preview(job: Job, path: Path, *, force: bool = False) -> None:
    """Write all grids of a job as a picture; no model is loaded.

    Raises UsageError for a suffix that is not a picture's, InputError if the file exists and
    `force` is not given.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"{path}: a preview is written as {listed(PICTURE_SUFFIXES)}.")
    with atomic_file(path, force=force) as temporary:
        preview(job).save(temporary)


def preview(job: Job) -> Image.Image:
    """All grids of a job, row by row, with thumbnails of the frames that are given.

    A frame that an earlier grid changes has no thumbnail.
    """
    pictures: list[Image.Image] = []
    changed: set[int] = set()
    for number, step in enumerate(job.steps, start=1):
        title = f"grid {number} of {len(job.steps)}" if len(job.steps) > 1 else ""
        pictures.append(_grid(job, step, changed, title))
        actions = zip(step.frames, step.actions, strict=True)
        changed.update(frame for frame, action in actions if action != "keep")
    width, height = pictures[0].size if pictures else (0, 0)
    # About as wide as it is high, so that a long clip fits into an image file.
    cols = max(1, round((len(pictures) * height / max(1, width)) ** 0.5))
    rows, top = -(-len(pictures) // cols), 3 * _LINE + 2 * _GAP
    size = max(_MIN_WIDTH, cols * width), top + rows * height + _GAP
    image = Image.new("RGB", size, _PAPER)
    for number, picture in enumerate(pictures):
        row, col = divmod(number, cols)
        image.paste(picture, (_GAP + col * width, top + row * height))
    _head(image, job)
    return image


def _head(image: Image.Image, job: Job) -> None:
    """Task, grid and prompt, and a legend of the actions."""
    draw, font = ImageDraw.Draw(image), _font()
    count = f", {len(job.steps)} grids" if len(job.steps) != 1 else ""
    prompt = job.outputs[0].prompt
    more = f" and {len(job.outputs) - 1} more" if len(job.outputs) > 1 else ""
    while font.getlength(f"{prompt}…{more}") > image.width - 2 * _GAP:
        prompt = prompt[:-1]
    if prompt != job.outputs[0].prompt:
        prompt += "…"
    draw.text((_GAP, _GAP), f"{job.task}: {job.num_frames} frames, {job.grid}{count}", _INK, font)
    draw.text((_GAP, _GAP + _LINE), f"{prompt}{more}", _INK, font)
    left, top = float(_GAP), _GAP + 2 * _LINE
    for action in dict.fromkeys(action for step in job.steps for action in step.actions):
        draw.rectangle((left, top + 2, left + 14, top + 16), _COLORS[action])
        text = f"{action}: {_MEANINGS[action]}"
        draw.text((left + 19, top), text, _INK, font)
        left += 19 + font.getlength(text) + 2 * _GAP


def _grid(job: Job, step: GridStep, changed: Collection[int], title: str) -> Image.Image:
    """The cells of a grid below its title; `changed` are the frames that earlier grids change."""
    grid, font = step.plan.grid, _font()
    width = min(max(grid.cell[0], _SIDES[0]), _SIDES[1])
    height, top = round(width * grid.cell[1] / grid.cell[0]), _LINE if title else 0
    across, down = width + _GAP, height + _LINE + _GAP
    size = grid.cols * across + 2 * _GAP, top + grid.rows * down + _GAP
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((0, 0), title, _INK, font)
    for cell, (frame, action) in enumerate(zip(step.frames, step.actions, strict=True)):
        row, col = grid.position(cell)
        left, upper = col * across, top + row * down
        box = (left, upper, left + width - 1, upper + height - 1)
        if frame in job.references and frame not in changed:
            thumbnail = Image.fromarray(job.references[frame])
            image.paste(thumbnail.resize((width, height), Image.Resampling.BOX), (left, upper))
        else:
            draw.rectangle(box, _EMPTY)
        draw.rectangle(box, outline=_COLORS[action], width=3)
        strength = f", {step.plan.release[cell]:.2f}" if action in ("init", "edit") else ""
        text = f"{frame} {action}{strength}"
        draw.text((left, upper + height + 2), text, _COLORS[action], font)
    return image


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(14)
