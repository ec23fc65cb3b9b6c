"""A picture of a plan: which cells are given, which are drawn, and from what they start."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gridctl.diffusion.plan import GENERATE, KEEP, Plan
from gridctl.errors import UsageError
from gridctl.files import atomic_file
from gridctl.generate.drawing import Drawing

SUFFIXES = (".png", ".jpg", ".webp")

_INK, _PAPER, _EMPTY = "#202020", "#ffffff", "#e4e4e4"
_COLORS = {"generate": "#8a8a8a", "keep": "#1b8a3a", "init": "#d9730d"}
_MEANINGS = {
    "generate": "drawn from noise",
    "keep": "given, stays as it is",
    "init": "given, changed from a noise level",
}
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SIDES = (96, 192)  # pixels, the least and the most of a cell's width
_GAP, _TEXT = 8, 14


def write_preview(drawing: Drawing, path: Path, *, force: bool = False) -> None:
    """Write the plan of a drawing's first grid as a picture; no model is loaded.

    Raises UsageError for a suffix that is no picture's, InputError if the file exists and
    `force` is not given.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a preview is written as {', '.join(SUFFIXES)}.")
    with atomic_file(path, force=force) as temporary:
        preview(drawing).save(temporary)


def preview(drawing: Drawing) -> Image.Image:
    """The plan of a drawing's first grid, with thumbnails of given frames."""
    plan = drawing.plan
    grid, font = plan.grid, ImageFont.load_default(_TEXT)
    width = min(max(grid.cell[0], _SIDES[0]), _SIDES[1])
    height = round(width * grid.cell[1] / grid.cell[0])
    head = _headlines(drawing)
    top = _GAP + len(head) * (_TEXT + 6) + _GAP
    across, down = width + _GAP, height + _TEXT + 2 * _GAP
    image = Image.new(
        "RGB",
        (max(520, grid.cols * across + _GAP), top + grid.rows * down + _GAP),
        _PAPER,
    )
    draw = ImageDraw.Draw(image)
    for line, text in enumerate(head):
        place = (_GAP, _GAP + line * (_TEXT + 6))
        draw.text(place, _fitted(text, image.width - 2 * _GAP, font), _INK, font)
    _legend(draw, plan, _GAP + (len(head) - 1) * (_TEXT + 6), font)
    for frame in range(grid.num_frames):
        row, col = grid.position(frame)
        left, upper = _GAP + col * across, top + row * down
        kind = _kind(plan.release[frame])
        box = (left, upper, left + width, upper + height)
        if kind != "generate" and drawing.reference is not None:
            thumbnail = Image.fromarray(drawing.reference[frame])
            image.paste(thumbnail.resize((width, height), Image.Resampling.BOX), (left, upper))
        else:
            draw.rectangle(box, _EMPTY)
        draw.rectangle(box, outline=_COLORS[kind], width=3)
        sigma = f", {plan.release[frame]:.2f}" if kind == "init" else ""
        number = drawing.cell_frames[frame]
        draw.text((left, upper + height + 2), f"{number} {kind}{sigma}", _COLORS[kind], font)
    return image


def _headlines(drawing: Drawing) -> list[str]:
    """What is above the cells; the last line is the legend's."""
    shots = drawing.shots
    grids = f", the first of {drawing.num_grids} grids" if drawing.num_grids > 1 else ""
    more = f" and {len(shots) - 1} more" if len(shots) > 1 else ""
    return [f"{drawing.task}: {drawing.plan.grid}{grids}", f"{shots[0].prompt}{more}", ""]


def _legend(
    draw: ImageDraw.ImageDraw,
    plan: Plan,
    top: int,
    font: _Font,
) -> None:
    left = float(_GAP)
    for kind in dict.fromkeys(_kind(release) for release in plan.release):
        draw.rectangle((left, top + 2, left + _TEXT, top + 2 + _TEXT), _COLORS[kind])
        text = f"{kind}: {_MEANINGS[kind]}"
        draw.text((left + _TEXT + 5, top), text, _INK, font)
        left += _TEXT + 5 + font.getlength(text) + 2 * _GAP


def _kind(release: float) -> str:
    if release == GENERATE:
        return "generate"
    return "keep" if release == KEEP else "init"


def _fitted(text: str, width: int, font: _Font) -> str:
    """The text, cut so that it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
