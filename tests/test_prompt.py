import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.prompt import DEFAULT_LAYOUT, LAYOUTS, grid_prompt, layout_prompt, layout_template

GRID = Grid(rows=4, cols=6, cell=(64, 64))
CONTENTS = st.text(st.characters(codec="utf-8"), max_size=60)


def test_the_layout_comes_first_and_the_content_after() -> None:
    assert grid_prompt(GRID, "a red circle moving right") == (
        "4x6 grid of 24 video frames in reading order. a red circle moving right"
    )


@pytest.mark.parametrize("name", sorted(LAYOUTS))
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
    assert prompt.split() == (layout_prompt(GRID) + " " + content).split()
    assert len(prompt.splitlines()) == 1


@given(CONTENTS)
def test_braces_in_content_are_only_text(content: str) -> None:
    assert grid_prompt(GRID, "{rows} " + content).split()[9] == "{rows}"


def test_without_content_the_layout_stands_alone() -> None:
    assert grid_prompt(GRID, "  ") == layout_prompt(GRID)


def test_a_template_of_ones_own_is_taken() -> None:
    template = layout_template("{frames} pictures, {rows} by {cols}")
    assert grid_prompt(GRID, "a cat", template) == "24 pictures, 4 by 6 a cat"


def test_an_empty_template_leaves_the_content() -> None:
    assert grid_prompt(GRID, "a cat", "") == "a cat"


def test_the_default_is_video() -> None:
    assert layout_template("video") == DEFAULT_LAYOUT


def test_an_unknown_layout_is_told_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"layout 'vidoe' is unknown; choose video, turn, or "):
        layout_template("vidoe")


@pytest.mark.parametrize("template", ["{rows} by {columns}", "{} frames", "{rows", "{rows:%z} of"])
def test_a_template_that_cannot_be_filled_in_is_told(template: str) -> None:
    with pytest.raises(UsageError, match=r"its fields are \{rows\}, "):
        layout_template(template)
