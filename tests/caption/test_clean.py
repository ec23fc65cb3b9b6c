import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.caption.clean import clean_answer, cut, open_thought, sentences, shorten
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
        json.dumps({"caption": DOG, "tags": ["dog"]}),
        json.dumps([DOG[: DOG.index("It")], DOG[DOG.index("It") :]]),
        f"```json\n{json.dumps({'frames': 4, 'Description': [DOG]}, indent=1)}\n```",
        json.dumps({"captions": [{"text": DOG}]}),
        f"# Description of the clip\n\n{DOG}",
        f"**Caption:**\n\n{DOG}",
        f"**Caption**\n{DOG}",
        f"{DOG}\n\nLet me know if you need anything else!",
        f"{DOG} If you want more detail, just let me know.",
        f"user\nDescribe this.\nassistant\n{DOG}",
        DOG.replace(". ", ".\\n"),
        DOG.replace(" ", "&nbsp;", 1),
    ],
)
def test_markup_and_polite_openings_are_removed(answer: str) -> None:
    assert clean_answer(answer) == DOG


THOUGHT = "The user wants a caption. I'm sorry? Let me look:\n\n1. a dog"


@pytest.mark.parametrize(
    "answer",
    [
        "<think>{thought}</think>{answer}",
        "<think>\n{thought}\n</think>\n\n<answer>\n{answer}\n</answer>",
        "{thought}</think>{answer}",
        "<thinking>{thought}</thinking><reflection>{thought}</reflection><output>{answer}</output>",
        "<thought>{thought}</thought>{answer}",
        "<THINK>{thought}</THINK> {answer}",
        '<think time="3">{thought}</think>{answer}',
        "<seed:think>{thought}<seed:cot_budget_reflect>12 left.</seed:cot_budget_reflect>{thought}"
        "</seed:think>{answer}",
        "<longcat_think>{thought}</longcat_think>{answer}",
        "<mm:think>{thought}</mm:think>{answer}",
        "<think_never_used_51bce0c785ca2f68081bfa7d91973934>{thought}"
        "</think_never_used_51bce0c785ca2f68081bfa7d91973934>{answer}",
        "◁think▷{thought}◁/think▷{answer}",
        "{thought}◁/think▷{answer}",
        "[THINK]{thought}[/THINK]{answer}",
        "<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final"
        "<|message|>{answer}<|return|>",
        "analysis{thought}assistantfinal{answer}",
        "<|channel>thought\n{thought}<channel|>{answer}<turn|>",
        "<|channel>thought\n<channel|>{answer}",
        "thought\n{answer}",
        "<unused94>thought\n{thought}<unused95>{answer}",
        "<|START_THINKING|>{thought}<|END_THINKING|><|START_RESPONSE|>{answer}<|END_RESPONSE|>",
        "<|begin_of_thought|>{thought}<|end_of_thought|>\n<|begin_of_solution|>{answer}"
        "<|end_of_solution|>",
        "<|think:start|>{thought}<|think:end|>{answer}",
        "{thought}<|think:end|>{answer}",
        "<|inner_prefix|>{thought}<|inner_suffix|>{answer}",
        "[unused16]{thought}[unused17]{answer}",
        "Here is my thought process: {thought}\n\nHere is my response: {answer}",
        "Here are my reasoning steps:\n{thought}\n[BEGIN FINAL RESPONSE]\n{answer}\n"
        "[END FINAL RESPONSE]\n<|end|>",
        "<SUMMARY>I will look.</SUMMARY><CAPTION>Dogs.</CAPTION><REASONING>{thought}</REASONING>"
        "<CONCLUSION>{answer}</CONCLUSION>",
        "**Thinking:** {thought}\n\n**Final Answer:** {answer}",
        '<details type="reasoning" done="true"><summary>Thought for 3 seconds</summary>\n'
        "> {thought}\n</details>\n{answer}",
        "<think>{thought}</think>\\boxed{{{answer}}}",
        "{answer}<｜end▁of▁sentence｜>",
    ],
)
def test_thoughts_are_removed_whatever_their_marks(answer: str) -> None:
    assert clean_answer(answer.format(thought=THOUGHT, answer=DOG)) == DOG


@pytest.mark.parametrize(
    "start",
    [
        *("<think>", "<seed:think>", "◁think▷", "[THINK]", "<|channel>thought\n", "<unused94>"),
        *("<|channel|>analysis<|message|>", "analysis", "<|START_THINKING|>", "[unused16]"),
        *("<|begin_of_thought|>", "Here is my thought process: ", "Thinking: ", "<|think:start|>"),
    ],
)
def test_a_thought_without_an_answer_is_an_error(start: str) -> None:
    with pytest.raises(GridctlError, match="still thinking"):
        clean_answer(start + THOUGHT, finished=False)


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<|user|>What? <think>\n", "<think>\n"),
        ("What?◁think▷", "◁think▷"),
        ("What?<seed:think>", "<seed:think>"),
        ("<|turn>model\n<|channel>thought\n", "<|channel>thought\n"),
        ("<think></think>What?", ""),
        ("Think. [thinking]", ""),
    ],
)
def test_a_prompt_that_opens_a_thought_is_recognised(prompt: str, mark: str) -> None:
    assert open_thought(prompt) == mark


def test_halves_of_an_emoji_are_joined_or_dropped() -> None:
    assert clean_answer("A \ud83d ball bounces.") == "A ball bounces."
    assert clean_answer("A \ud83d\ude00 ball\ufffd.") == "A \U0001f600 ball."


@pytest.mark.parametrize(
    "text",
    [
        "A statue of a thinker is thinking about [thinking] and thought.",
        "An analysis of a channel: thought bubbles rise.",
        "A sorry-looking dog sits in 3 < 4 boxes of 2 * 2 * 2 cm.",
        "The sign says snake_case_name and 5*3*2.",
        'He says "no" and "yes".',
        "Here it is warm. A cat sleeps.",
        "I-beams and an AI logo turn.",
        "Sure-footed goats climb. One rests.",
        "Absolutely still water mirrors a hill.",
        "Ein Bär läuft – 10 m weit.",
        "一只狗在跑。它跳过木头。",
        "[A dog] runs; {it} jumps.",
        "A sign says let me know. A cat reads it.",
    ],
)
def test_text_that_only_looks_like_markup_stays(text: str) -> None:
    assert clean_answer(text) == text


@pytest.mark.parametrize(
    "answer", ["", " \n", "<|im_end|>", "...", "<think>a dog</think>", "``` ```", "**", '""']
)
def test_an_empty_answer_is_an_error(answer: str) -> None:
    with pytest.raises(GridctlError, match="answer is empty"):
        clean_answer(answer)


@pytest.mark.parametrize("answer", ['{"caption": "A dog', '{"caption": ""}', '[["", 3]]'])
def test_json_without_a_caption_is_an_error(answer: str) -> None:
    with pytest.raises(GridctlError, match="JSON that holds no caption"):
        clean_answer(answer)


def test_a_model_that_was_still_thinking_is_an_error() -> None:
    with pytest.raises(GridctlError, match=r"still thinking .* raise caption\.max_tokens"):
        clean_answer("<think>The first frame shows a dog. The second", finished=False)
    with pytest.raises(
        GridctlError, match=r"token limit before its answer; raise caption\.max_tokens"
    ):
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


def test_a_cut_off_answer_ends_with_a_sentence() -> None:
    assert clean_answer(f"{DOG} Then it", finished=False) == DOG
    assert clean_answer(DOG, finished=False) == DOG
    assert clean_answer("A brown dog runs", finished=False) == "A brown dog runs"


def test_text_is_cut_after_a_sentence_or_word() -> None:
    def short(length: int) -> str:
        return cut("One two. Three four! Five six.", lambda text: len(text) <= length)

    assert short(30) == "One two. Three four! Five six."
    assert short(29) == "One two. Three four!"
    assert short(12) == "One two."
    assert short(7) == "One"
    assert short(2) == ""


@given(st.text(st.sampled_from("ab.!? 。\n"), max_size=60), st.integers(0, 60))
def test_a_cut_text_is_a_beginning_that_fits(text: str, length: int) -> None:
    line = " ".join(text.split())
    assert "".join(sentences(line)) == line
    kept = cut(line, lambda part: len(part) <= length)
    assert line.startswith(kept)
    assert len(kept) <= length


def test_text_for_messages_is_one_short_line() -> None:
    assert shorten("a\n b", 80) == "a b"
    assert shorten("a" * 90, 10) == "aaaaaaa..."
