"""Answers that were made to keep the cleaners busy: 100 kB of whatever a pattern looks for."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings

from gridctl.caption.clean import (
    clean_answer,
    cut,
    open_thought,
    sentences,
    without_json,
    without_thoughts,
)
from gridctl.errors import GridctlError
from tests.hostile import LENGTH, hostile_texts, no_hang

PARTS = [
    *("\n", " ", "\t", "\r", "a", "1", "_", "*", "**", "#", "# a\n", "- ", ">", "-", "=", "1. "),
    *("<", "<a", "<think", "<think>", "</think>", "think_", "<think_", "<answer>", "</answer>"),
    *("<details", "<summary>", "◁", "◁think", "▷", "<|", "|>", "<|channel|>", "analysis"),
    *("<|begin_of_solution|>", "<|end_of_solution|>", "</details>", "assistantfinal"),
    *("[THINK]", "[BEGIN FINAL RESPONSE]", "<unused94>", "[unused17]", "final "),
    *("Here is my thought process:", "here is my answer:", "thinking\n", "thinking:", "answer"),
    *("user\n", "system", "assistant\n", "model", ":", "```", "`", "[", "]", "(", ")", "[a]("),
    *("\\boxed{", "{", "}", '{"a":', '["', '"', "”", ".", "!", "…", "。", "\\n", "'s", "I'm sorry"),
    *("? if you have", "! let me know", "let me", "sure, here", "&#", "&#9", "9", "&", "x", "12h"),
    *("\u0300\u0316", "\u0f73", "\u200b", "\ud83d", "\u2028", "\x0b", "ß"),
]  # fmt: skip


@given(hostile_texts(PARTS))
@settings(max_examples=25)
def test_no_answer_keeps_the_cleaners_busy(answer: str) -> None:
    with no_hang():
        for finished in (True, False):
            with suppress(GridctlError):
                clean_answer(answer, finished=finished)
        without_thoughts(answer)
        open_thought(answer)
        assert "".join(sentences(answer)) == answer
        cut(answer, lambda text: len(text) < 500)


@pytest.mark.parametrize(
    "answer",
    [
        "user\n" + "\n" * LENGTH + "a red ball moves.",
        "thinking:" + "\n" * LENGTH,
        "<think>" * 15_000,
        "[a](" * 25_000,
        "![" * 50_000,
        "<" + "think_" * 16_000,
        "A" + "!" * LENGTH + "x",
        "A" + "。" * LENGTH + "x",
        "Yes? if you have" * 6_000,
        "e" + "\u0300\u0316" * 50_000,
        "\u0f73" * 50_000,
    ],
)
def test_known_traps_are_quick(answer: str) -> None:
    with no_hang(), suppress(GridctlError):
        clean_answer(answer)


@pytest.mark.parametrize("answer", ["[" * LENGTH, '{"a":' * 20_000, '["' + "[" * LENGTH])
def test_deep_json_is_one_error(answer: str) -> None:
    for whole in (answer, f"```json\n{answer}\n```"):
        with no_hang(), pytest.raises(GridctlError):
            clean_answer(whole)


def test_json_that_is_parsed_but_too_deep_is_one_error() -> None:
    answer = json.dumps("a dog")
    for _ in range(700):
        answer = f"[{answer}]"
    with suppress(GridctlError):
        assert without_json(answer) == "a dog"


def test_numbers_of_any_length_are_dropped() -> None:
    assert clean_answer(f"A &#{'9' * 5000}; dog &#x{'9' * 5000};&#65; runs.") == "A dog A runs."
