import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.caption.clean import clean_answer, cut, sentences, shorten
from gridctl.errors import GridctlError

DOG = "A brown dog runs to the right. It jumps over a log."


@pytest.mark.parametrize(
    "answer",
    [
        f"  {DOG}\n",
        "A brown dog runs\nto the   right.\r\n\r\nIt jumps over a log.",
        f"<think>Let me see: a dog? I'm sorry, no.</think>\n<answer>{DOG}</answer>",
        f"The user wants a caption.\n</think>{DOG}",
        f"<think>a</think><answer><|begin_of_box|>{DOG}<|end_of_box|></answer><|im_end|>",
        f"<answer>{DOG}",
        f"[gMASK]<sop>{DOG}</s>",
        f"```text\n{DOG}\n```",
        "## A **brown dog** runs to the right.\n---\n- It *jumps* over a `log`.",
        "1. A brown dog runs to the right.\n2) It jumps over a [log](https://a.b/c_d).",
        f"<p>{DOG}</p><br/>",
        f'"{DOG}"',
        f"“{DOG}”",
        f"Sure! Here is the caption:\n\n{DOG}",
        f"Certainly, this is what the clip shows: {DOG}",
        f"Caption: {DOG}",
        f"Here's a description of it: {DOG}",
        "> A brown dog runs to the right.\n> It jumps over a log.",
        "A brown dog runs to the right.\x00\u200b It jumps over a log.",
        "A bro\u00adwn dog runs to the right.\x0bIt jumps over a log.",
        f"Sure here is a caption: {DOG}",
        f"Okay, I’ll describe it. {DOG}",
        f"Of course! {DOG}",
    ],
)
def test_markup_and_manners_are_cleaned_away(answer: str) -> None:
    assert clean_answer(answer) == DOG


@pytest.mark.parametrize(
    "text",
    [
        "A sorry-looking dog sits in 3 < 4 boxes of 2 * 2 * 2 cm.",
        "The sign says snake_case_name and 5*3*2.",
        'He says "no" and "yes".',
        "Here it is warm. A cat sleeps.",
        "I-beams and an AI logo turn.",
        "Sure-footed goats climb. One rests.",
        "Absolutely still water mirrors a hill.",
        "Ein Bär läuft – 10 m weit.",
        "一只狗在跑。它跳过木头。",
    ],
)
def test_what_is_no_markup_stays(text: str) -> None:
    assert clean_answer(text) == text


@pytest.mark.parametrize(
    "answer", ["", " \n", "<|im_end|>", "...", "<think>a dog</think>", "``` ```", "**", '""']
)
def test_an_empty_answer_is_an_error(answer: str) -> None:
    with pytest.raises(GridctlError, match="answer is empty"):
        clean_answer(answer)


def test_a_model_that_was_still_thinking_is_told_so() -> None:
    with pytest.raises(GridctlError, match=r"still thinking .* raise caption\.max_tokens"):
        clean_answer("<think>The first frame shows a dog. The second", finished=False)
    with pytest.raises(GridctlError, match=r"ran out .* raise caption\.max_tokens"):
        clean_answer("", finished=False)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot describe people.",
        "I am unable to view images.",
        "Sorry, I can't do that.",
        "I cannot assist with this request.",
        "I can't identify the person in the picture.",
        "As an AI language model, I have no eyes.",
        "Unfortunately, I cannot see the image.",
        "<think>Hm.</think>\n**I'm sorry**, but no.",
        "抱歉，我无法描述这张图片。",
    ],
)
def test_a_refusal_is_an_error(answer: str) -> None:
    with pytest.raises(GridctlError, match="refuses"):
        clean_answer(answer)


def test_an_answer_that_ran_out_of_tokens_ends_with_its_last_whole_sentence() -> None:
    assert clean_answer(f"{DOG} Then it", finished=False) == DOG
    assert clean_answer(DOG, finished=False) == DOG
    assert clean_answer("A brown dog runs", finished=False) == "A brown dog runs"


def test_a_long_text_is_cut_at_a_sentence_else_at_a_word() -> None:
    def short(length: int) -> str:
        return cut("One two. Three four! Five six.", lambda text: len(text) <= length)

    assert short(30) == "One two. Three four! Five six."
    assert short(29) == "One two. Three four!"
    assert short(12) == "One two."
    assert short(7) == "One"
    assert short(2) == ""


@given(st.text(st.sampled_from("ab.!? 。\n"), max_size=60), st.integers(0, 60))
def test_a_cut_is_a_beginning_that_fits_and_loses_no_letter(text: str, length: int) -> None:
    line = " ".join(text.split())
    assert "".join(sentences(line)) == line
    kept = cut(line, lambda part: len(part) <= length)
    assert line.startswith(kept)
    assert len(kept) <= length


def test_messages_are_one_short_line() -> None:
    assert shorten("a\n b", 80) == "a b"
    assert shorten("a" * 90, 10) == "aaaaaaa..."
