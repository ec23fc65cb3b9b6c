"""Layout prompts, and the questions that a vision-language model is asked about a grid.

`caption` and `generate` both build their text here, so an adapter is prompted with the
sentence that it was trained on. The layout comes first because CLIP reads only 77 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.text import encodable

LAYOUTS = {
    "video": "{rows}x{cols} grid of {frames} video frames in {order} order.",
    "turn": "{rows}x{cols} grid of {frames} views of one full turn in {order} order.",
    "time": "{rows}x{cols} grid of {frames} frames {interval} apart in {order} order.",
    "action": "{rows}x{cols} grid of {frames} steps of one action in {order} order.",
    "free": "",  # the content alone
}
DEFAULT_LAYOUT = LAYOUTS["video"]
LAYOUT_FIELDS = "{rows}, {cols}, {frames}, {order} and {interval}"

_ORDER_WORDS = {"row-major": "reading", "serpentine": "serpentine"}


View = Literal["grid", "keyframes", "frames"]
# The question for a model; {shown} and {task} stand for the sentences below.
DEFAULT_QUESTION = (
    "{shown} {task} {subject} Begin with the subject. Write one paragraph of at most 100 words in "
    "plain sentences, without lists or headings, and speak of the clip, not of images or a grid."
)
_SHOWN = {
    "grid": "The picture holds {frames} frames of one clip, {interval} apart, in {rows} rows and "
    "{cols} columns; read it in {order} order.",
    "keyframes": "You see {shown_frames} key frames of one clip, from first to last.",
    "frames": "You see all {shown_frames} frames of one clip, in order, {interval} apart.",
}
_TASKS = {
    "turn": "They are views of one object on a full turn: describe the object, its shape, colours "
    "and material, and what its sides and its back show.",
    "time": "Describe what is seen and how it changes over these {duration}.",
    "action": "Describe who acts, and the steps of the action from beginning to end.",
}
_TASK = "Describe what is seen, how it moves and changes, and the background."


def layout_template(layout: str) -> str:
    """The template of a named layout, or `layout` itself on one line if it is a template.

    Raises UsageError for an unknown name, or for a template with unknown fields.
    """
    template = " ".join(LAYOUTS.get(layout, layout).split())  # trainers read a .txt's first line
    if layout not in LAYOUTS and "{" not in layout and " " not in layout:
        raise UsageError(
            f"layout {layout!r} is unknown; choose {', '.join(LAYOUTS)}, or write a sentence "
            f"with {LAYOUT_FIELDS}."
        )
    layout_prompt(Grid(rows=1, cols=1, cell=(16, 16)), template)
    return template


def layout_prompt(grid: Grid, template: str = DEFAULT_LAYOUT, *, fps: float = 1.0) -> str:
    """The sentence that describes the grid; `fps` gives the {interval} between its frames."""
    return fill_in(template, layout_fields(grid, fps), what="layout")


def layout_fields(grid: Grid, fps: float) -> dict[str, object]:
    """The values that a template can name, for a grid whose frames are played at `fps`."""
    return {
        "rows": grid.rows,
        "cols": grid.cols,
        "frames": grid.num_frames,
        "order": _ORDER_WORDS[grid.order],
        "interval": _seconds(1 / fps),
    }


def fill_in(template: str, fields: Mapping[str, object], *, what: str) -> str:
    """`template` with its fields filled in; UsageError, naming `what`, for an unknown field."""
    try:
        return template.format_map(fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        *others, last = (f"{{{name}}}" for name in fields)
        raise UsageError(
            f"{what} {template!r} cannot be filled in ({error}); "
            f"its fields are {', '.join(others)} and {last}."
        ) from None


def grid_prompt(
    grid: Grid, content: str, template: str = DEFAULT_LAYOUT, *, fps: float = 1.0
) -> str:
    """Layout prompt, then content on one line: a grid's caption, and the prompt of `generate`.

    What UTF-8 cannot hold is dropped from the content, and it gets normal form C.
    """
    opening = layout_prompt(grid, template, fps=fps)
    return f"{opening} {' '.join(encodable(content).split())}".strip()


def question_prompt(
    template: str,
    grid: Grid,
    *,
    fps: float,
    frames: int,
    shown: int,
    view: View,
    layout: str = DEFAULT_LAYOUT,
    subject: str | None = None,
) -> str:
    """The question for a model about a grid of `frames` real frames, `shown` of them one by one.

    `layout` is a layout's name or template. Each named layout asks for something different.
    Raises UsageError for an unknown field of `template`.
    """
    fields = layout_fields(grid, fps)
    fields["frames"] = frames  # without padding
    fields["shown_frames"] = shown
    fields["duration"] = _seconds(frames / fps)
    names = {sentence: name for name, sentence in LAYOUTS.items()}
    task = _TASKS.get(names.get(layout, layout), _TASK)
    question = {
        "shown": fill_in(_SHOWN[view], fields, what="view"),
        "task": fill_in(task, fields, what="task"),
        "subject": f"The subject is: {subject}." if subject else "",
        **fields,
    }
    return " ".join(fill_in(template, question, what="prompt").split())


def check_question(template: str) -> str:
    """`template` itself; UsageError if it has a field that `question_prompt` does not know."""
    grid = Grid(rows=1, cols=1, cell=(16, 16))
    if not question_prompt(template, grid, fps=1.0, frames=1, shown=1, view="grid"):
        raise UsageError("the prompt is empty; write what the model should describe.")
    return template


def _seconds(interval: float) -> str:
    """`0.5 seconds`, to two digits; more would only be noise to a text encoder."""
    number = f"{interval:.2g}" if interval < 10 else f"{interval:.0f}"
    return f"{number} second{'' if number == '1' else 's'}"
