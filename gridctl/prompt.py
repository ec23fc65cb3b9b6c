"""Layout prompts: the one place that words a grid.

`caption` writes with it and `generate` asks with it, so an adapter is prompted by the
sentence it was trained on. The layout comes first: CLIP keeps 77 tokens and must not
lose it.
"""

from __future__ import annotations

from gridctl.errors import UsageError
from gridctl.geometry import Grid

LAYOUTS = {
    "video": "{rows}x{cols} grid of {frames} video frames in {order} order.",
    "turn": "{rows}x{cols} grid of {frames} views of one full turn in {order} order.",
}
DEFAULT_LAYOUT = LAYOUTS["video"]

_ORDER_WORDS = {"row-major": "reading", "serpentine": "serpentine"}


def layout_template(layout: str) -> str:
    """A named layout's template, or `layout` itself if it is a template already.

    Raises UsageError for a name that is unknown or a template with unknown fields.
    """
    template = LAYOUTS.get(layout, layout)
    if template == layout and "{" not in layout and " " not in layout:
        raise UsageError(
            f"layout {layout!r} is unknown; choose {', '.join(LAYOUTS)}, or write a sentence "
            "with {rows}, {cols}, {frames} and {order}."
        )
    layout_prompt(Grid(rows=1, cols=1, cell=(16, 16)), template)
    return template


def layout_prompt(grid: Grid, template: str = DEFAULT_LAYOUT) -> str:
    """The sentence that describes the grid."""
    try:
        return template.format(
            rows=grid.rows,
            cols=grid.cols,
            frames=grid.num_frames,
            order=_ORDER_WORDS[grid.order],
        )
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(
            f"layout {template!r} cannot be filled in ({error}); "
            "its fields are {rows}, {cols}, {frames} and {order}."
        ) from None


def grid_prompt(grid: Grid, content: str, template: str = DEFAULT_LAYOUT) -> str:
    """Layout prompt, then content: what a grid's caption is and what `generate` asks for."""
    return f"{layout_prompt(grid, template)} {' '.join(content.split())}".strip()
