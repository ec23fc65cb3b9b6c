from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.prompt import (
    DEFAULT_LAYOUT,
    DEFAULT_QUESTION,
    LAYOUTS,
    View,
    check_question,
    grid_prompt,
    layout_prompt,
    layout_template,
    question_prompt,
)
from gridctl.text import encodable

GRID = Grid(rows=4, cols=6, cell=(64, 64))
CONTENTS = st.text(st.characters(exclude_categories=()), max_size=60)  # halves of pairs, too


def test_the_layout_comes_first_and_the_content_after() -> None:
    assert grid_prompt(GRID, "a red circle moving right") == (
        "4x6 grid of 24 video frames in reading order. a red circle moving right"
    )


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"free"}))
def test_a_layout_says_its_grid(name: str) -> None:
    grid = Grid(rows=2, cols=5, cell=(16, 16), order="serpentine")
    prompt = layout_prompt(grid, layout_template(name))
    for fact in ("2x5", "10", "serpentine"):
        assert fact in prompt
    assert "{" not in prompt
    assert layout_prompt(GRID, layout_template(name)) != prompt


@given(CONTENTS)
def test_content_is_one_line_behind_the_layout(content: str) -> None:
    prompt = grid_prompt(GRID, content)
    assert prompt.startswith(layout_prompt(GRID))
    assert prompt.split() == (layout_prompt(GRID) + " " + encodable(content)).split()
    assert len(prompt.splitlines()) == 1


@given(CONTENTS)
def test_braces_in_content_are_plain_text(content: str) -> None:
    assert grid_prompt(GRID, "{rows} " + content).split()[9] == "{rows}"


def test_without_content_the_layout_stands_alone() -> None:
    assert grid_prompt(GRID, "  ") == layout_prompt(GRID)


def test_a_template_of_your_own() -> None:
    template = layout_template("{frames} pictures, {rows} by {cols}")
    assert grid_prompt(GRID, "a cat", template) == "24 pictures, 4 by 6 a cat"


def test_an_empty_template_leaves_the_content() -> None:
    assert grid_prompt(GRID, "a cat", "") == "a cat"


def test_the_default_is_video() -> None:
    assert layout_template("video") == DEFAULT_LAYOUT


def test_an_unknown_layout_is_an_error_with_the_known_names() -> None:
    with pytest.raises(UsageError, match=r"layout 'vidoe' is unknown; choose video, turn, "):
        layout_template("vidoe")


@pytest.mark.parametrize("template", ["{rows} by {columns}", "{} frames", "{rows", "{rows:%z} of"])
def test_a_template_that_cannot_be_filled_in_is_an_error(template: str) -> None:
    with pytest.raises(UsageError, match=r"its fields are \{rows\}, "):
        layout_template(template)


def test_a_time_series_says_its_interval() -> None:
    template = layout_template("time")
    said = [layout_prompt(GRID, template, fps=fps) for fps in (1.0, 2.4, 0.05, 24.0)]
    words = ["1 second apart", "0.42 seconds apart", "20 seconds apart", "0.042 seconds apart"]
    assert all(word in text for word, text in zip(words, said, strict=True))


def test_the_free_layout_adds_no_words() -> None:
    assert grid_prompt(GRID, "Four cats.", layout_template("free")) == "Four cats."


@pytest.mark.parametrize("view", get_args(View))
@pytest.mark.parametrize("layout", ["video", "turn", "time", "action", "free", "{rows} rows."])
def test_a_question_is_filled_in_for_every_view_and_layout(view: str, layout: str) -> None:
    text = question_prompt(
        DEFAULT_QUESTION,
        GRID,
        fps=2.0,
        frames=20,
        shown=4,
        view=view,  # type: ignore[arg-type]
        layout=layout,
        subject="a dog",
    )
    assert "{" not in text
    assert "The subject is: a dog." in text
    assert ("4 rows" in text) == (view == "grid")
    assert ("You see 4 key frames" in text) == (view == "keyframes")
    assert ("10 seconds" in text) == (layout == "time")
    assert ("full turn" in text) == (layout == "turn")


def test_a_question_of_your_own_is_checked() -> None:
    text = question_prompt(
        "{frames} in {rows}x{cols}?", GRID, fps=1, frames=3, shown=1, view="grid"
    )
    assert text == "3 in 4x6?"
    for wrong, reason in (("{frame}?", r"its fields are \{shown\}, \{task\}, "), (" ", "empty")):
        with pytest.raises(UsageError, match=reason):
            check_question(wrong)
