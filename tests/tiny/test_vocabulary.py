"""Unknown words, words that captions teach, and warnings about prompts and settings."""

import pytest

from gridctl.tiny.vocabulary import new_words, prompt_warnings, settings_warnings, unknown_words
from gridctl.tiny.words import EXAMPLES, MOTION_WORDINGS, VOCABULARY


def test_every_listed_word_is_a_token() -> None:
    words = [word for kind in VOCABULARY.values() for word in kind]
    wordings = [w for wordings in MOTION_WORDINGS.values() for w in wordings]
    assert unknown_words(" ".join([*words, *EXAMPLES, *wordings])) == []


def test_unknown_words_are_listed_once() -> None:
    prompt = "4x6 grid of 24 video frames in reading order. A Red circle, moving right!"
    assert unknown_words(prompt) == []
    assert unknown_words("a red zebra, (zebra) on a unicycle.") == ["zebra", "unicycle"]


def test_new_words_are_lower_case_and_at_most_100() -> None:
    captions = ["a red heart Beating on black", "a blue star beating, 4x6 glitter"]
    assert new_words(captions) == ("beating", "glitter")
    letters = "abcdefghijklmnopqrst"
    many = [f"zz{a}{b}" for a in letters for b in letters]
    assert new_words(many) == tuple(many[:100])


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
def test_a_known_prompt_has_no_warning(prompt: str) -> None:
    assert list(prompt_warnings([prompt])) == []


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a corgi runs on a beach", "never learned corgi, runs, beach. It draws circle, square"),
        ("a green square on a yellow background", "yellow is not a background"),
        ("a blue star rises on black", "never learned rises"),
        ("a green square on yellow", "yellow is not a background"),
        ("a red circle, and the background is pink", "pink is not a background"),
        ("red background with a blue star", "red is not a background"),
        ("a black circle on a white background", "black is not a colour of a shape"),
        ("a gray striped heart growing on navy", "gray is not a colour of a shape"),
    ],
)
def test_a_warning_names_the_word_and_the_list(prompt: str, told: str) -> None:
    (warning,) = prompt_warnings([prompt, prompt])
    assert told in warning
    assert "gridctl generate vocabulary" in warning
    assert "\n" not in warning


def test_taught_words_are_known() -> None:
    assert list(prompt_warnings(["a red Zebra"], ("zebra",))) == []
    (warning,) = prompt_warnings(["a red Zebra on a unicycle"], ("zebra",))
    assert "never learned unicycle." in warning


@pytest.mark.parametrize(
    ("guidance", "true_cfg_scale", "told"),
    [
        (1.0, 4.0, []),
        (5.0, 1.0, []),
        (0.9, 1.0, ["guidance 0.9 is outside 1 to 5"]),
        (5.1, 1.0, ["guidance 5.1 is outside 1 to 5"]),
        (3.5, 4.5, ["true_cfg_scale 4.5 is above 4"]),
        (7.0, 9.0, ["guidance 7 ", "true_cfg_scale 9 "]),
    ],
)
def test_untried_scales_are_named(guidance: float, true_cfg_scale: float, told: list[str]) -> None:
    warnings = list(settings_warnings(guidance=guidance, true_cfg_scale=true_cfg_scale))
    assert [told in w for told, w in zip(told, warnings, strict=True)] == [True] * len(told)
