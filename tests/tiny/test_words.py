"""The words of the toy world, and the remarks on prompts that go beyond them."""

import json
from collections.abc import Callable

import pytest

from gridctl.models.text import words_new_to_built_in
from gridctl.tiny.words import EXAMPLES, MOTION_WORDINGS, VOCABULARY, prompt_remarks


def remarks(prompt: str) -> list[str]:
    return list(prompt_remarks(prompt, words_new_to_built_in([prompt])))


def test_every_word_that_is_listed_is_a_token_of_the_model() -> None:
    words = [word for kind in VOCABULARY.values() for word in kind]
    assert words_new_to_built_in([*words, *EXAMPLES]) == ()
    assert [len(kind) for kind in VOCABULARY.values()] == [6, 4, 8, 5, 10, 3]
    wordings = [w for wordings in MOTION_WORDINGS.values() for w in wordings]
    assert words_new_to_built_in(wordings) == ()


@pytest.mark.parametrize(
    "prompt",
    [
        *EXAMPLES,
        "a red circle moves right",
        "a striped green heart goes up on a gray background",
        "on beige, a yellow star is falling",
        "navy background with an outlined pink cross growing",
        "Orange square, standing still, white background",
    ],
)
def test_what_the_world_has_is_not_remarked_on(prompt: str) -> None:
    assert remarks(prompt) == []


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a corgi runs on a beach", "never learned corgi, runs, beach. It draws circle, square"),
        ("a green square on a yellow background", "yellow is no background"),
        ("a blue star rises on black", "never learned rises"),
        ("a green square on yellow", "yellow is no background"),
        ("a red circle, and the background is pink", "pink is no background"),
        ("red background with a blue star", "red is no background"),
        ("a black circle on a white background", "black is no colour of a shape"),
        ("a gray striped heart growing on navy", "gray is no colour of a shape"),
    ],
)
def test_what_it_has_not_is_named_with_the_way_to_the_list(prompt: str, told: str) -> None:
    (remark,) = remarks(prompt)
    assert told in remark
    assert "gridctl generate vocabulary" in remark
    assert "\n" not in remark


def test_words_of_captions_are_found_once_and_in_lower_case() -> None:
    captions = ["a red heart Beating on black", "a blue star beating, 4x6 glitter"]
    assert words_new_to_built_in(captions) == ("beating", "glitter")


def test_the_command_lists_them(
    gridctl: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gridctl("generate", "vocabulary") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "shapes       circle, square, triangle, star, cross, heart"
    assert lines[-1].split(maxsplit=1)[0] == "a"
    assert gridctl("generate", "vocabulary", "--json") == 0
    assert json.loads(capsys.readouterr().out)["backgrounds"][-1] == "beige"
