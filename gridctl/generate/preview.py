"""A picture of a job: which cells of each grid are given, which are drawn, and from what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gridctl.errors import UsageError
from gridctl.files import atomic_file
from gridctl.generate.job import Job
from gridctl.generate.steps import GridStep
from gridctl.geometry import Grid
from gridctl.media.images import write_image

SUFFIXES = (".png", ".jpg", ".webp")

_INK, _PAPER, _EMPTY = "#202020", "#ffffff", "#e4e4e4"
_COLORS = {"generate": "#8a8a8a", "keep": "#1b8a3a", "init": "#d9730d", "edit": "#7a3db8"}
_MEANINGS = {
    "generate": "drawn from noise",
    "keep": "known, stays as it is",
    "init": "known, changed from a noise level",
    "edit": "known, changed by FlowEdit",
}

_SIDES = (96, 192)  # pixels, the least and the most of a cell's width
_GAP, _TEXT = 8, 14
_LINE = _TEXT + 6
_MIN_WIDTH = 520  # pixels: room for the legend


def write_preview(job: Job, path: Path, *, force: bool = False) -> None:
    """Write all grids of a job as a picture; no model is loaded.

    Raises UsageError for a suffix that is not a picture's, InputError if the file exists and
    `force` is not given.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a preview is written as {', '.join(SUFFIXES)}.")
    with atomic_file(path, force=force) as temporary:
        write_image(preview(job), temporary)


def preview(job: Job) -> Image.Image:
    """All grids of a job, in columns, with thumbnails of the frames that are given.

    A frame that an earlier grid draws has no thumbnail.
    """
    table = _Table.of(job.grid, len(job.steps))
    head = _GAP + 3 * _LINE + _GAP
    width = max(_MIN_WIDTH, table.columns * table.width + _GAP)
    image = Image.new("RGB", (width, head + table.rows * table.height + _GAP), _PAPER)
    _draw_head(image, job)
    # Before each step: the frames that those before it have drawn.
    drawn = accumulate((step.frames for step in job.steps), set.union, initial=set[int]())
    for number, (step, done) in enumerate(zip(job.steps, drawn, strict=False)):
        column, row = divmod(number, table.rows)
        corner = (_GAP + column * table.width, head + row * table.height)
        if len(job.steps) > 1:
            title = f"grid {number + 1} of {len(job.steps)}"
            ImageDraw.Draw(image).text(corner, title, _INK, _font())
        _draw_grid(image, job, step, done, table, (corner[0], corner[1] + table.title))
    return image


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Where grids lie in the picture, in pixels: `rows` of them below each other in `columns`."""

    rows: int
    columns: int
    cell: tuple[int, int]
    across: int
    down: int
    width: int
    height: int
    title: int

    @classmethod
    def of(cls, grid: Grid, count: int) -> _Table:
        width = min(max(grid.cell[0], _SIDES[0]), _SIDES[1])
        cell = width, round(width * grid.cell[1] / grid.cell[0])
        across, down = cell[0] + _GAP, cell[1] + _TEXT + 2 * _GAP
        title = _LINE if count > 1 else 0
        size = grid.cols * across + _GAP, grid.rows * down + title + _GAP
        # About as wide as it is high, so that a long clip fits into an image file.
        rows = max(1, round((count * size[0] / size[1]) ** 0.5))
        columns = max(1, -(-count // rows))
        return cls(
            rows=rows, columns=columns, cell=cell, across=across, down=down,
            width=size[0], height=size[1], title=title,
        )  # fmt: skip


def _draw_head(image: Image.Image, job: Job) -> None:
    """Task, grid and prompt, and a legend of the actions."""
    draw, font = ImageDraw.Draw(image), _font()
    count = f", {len(job.steps)} grids" if len(job.steps) != 1 else ""
    more = f" and {len(job.outputs) - 1} more" if len(job.outputs) > 1 else ""
    texts = [
        f"{job.task}: {job.num_frames} frames, {job.grid}{count}",
        f"{job.outputs[0].prompt}{more}",
    ]
    for line, text in enumerate(texts):
        draw.text((_GAP, _GAP + line * _LINE), _fitted(text, image.width - 2 * _GAP), _INK, font)
    left, top = float(_GAP), _GAP + 2 * _LINE
    for action in dict.fromkeys(action for step in job.steps for action in step.actions):
        draw.rectangle((left, top + 2, left + _TEXT, top + 2 + _TEXT), _COLORS[action])
        text = f"{action}: {_MEANINGS[action]}"
        draw.text((left + _TEXT + 5, top), text, _INK, font)
        left += _TEXT + 5 + font.getlength(text) + 2 * _GAP


def _draw_grid(
    image: Image.Image,
    job: Job,
    step: GridStep,
    drawn: Collection[int],
    table: _Table,
    corner: tuple[int, int],
) -> None:
    """The cells of a grid; `drawn` are the frames that earlier grids have drawn."""
    draw, (width, height) = ImageDraw.Draw(image), table.cell
    for cell, (frame, action) in enumerate(zip(step.frames, step.actions, strict=True)):
        row, col = job.grid.position(cell)
        left, top = corner[0] + col * table.across, corner[1] + row * table.down
        box = (left, top, left + width, top + height)
        if frame in job.references and frame not in drawn:
            thumbnail = Image.fromarray(job.references[frame])
            image.paste(thumbnail.resize((width, height), Image.Resampling.BOX), (left, top))
        else:
            draw.rectangle(box, _EMPTY)
        draw.rectangle(box, outline=_COLORS[action], width=3)
        strength = f", {step.plan.release[cell]:.2f}" if action in ("init", "edit") else ""
        text = f"{frame} {action}{strength}"
        draw.text((left, top + height + 2), text, _COLORS[action], _font())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT)


def _fitted(text: str, width: int) -> str:
    """The text, cut so that it fits."""
    font = _font()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
