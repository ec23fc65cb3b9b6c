"""Remove what a model thought aloud from its answer.

Reasoning models mark their thoughts in many ways, and a server without the right reasoning
parser passes the marks on. Known marks, by who writes them:

    <think> </think>              DeepSeek, Qwen, GLM, Phi, MiniMax, InternVL and most others
    <thought>, <thinking>, <reasoning>, <analysis>          EXAONE, Reflection, Keye, LLaVA-CoT
    <seed:think>, <longcat_think>, <mm:think>               Seed-OSS, LongCat, MiniMax
    ◁think▷ ◁/think▷                                        Kimi-VL
    [THINK] [/THINK]                                        Magistral
    <|channel|>analysis<|message|> … <|channel|>final       gpt-oss (harmony)
    <|channel>thought … <channel|>, <unused94> … <unused95> Gemma 4, MedGemma
    <|START_THINKING|> <|END_THINKING|>                     Cohere Command
    <|begin_of_thought|> <|end_of_thought|>                 OpenThinker, Sky-T1
    <|think:start|>, <|inner_prefix|>, [unused16]           Solar, Apertus, Pangu
    "Here is my thought process:" … "Here is my response:"  Granite
    "Here are my reasoning steps:" … [BEGIN FINAL RESPONSE] Apriel
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FLAGS = re.DOTALL | re.IGNORECASE
# seed:think, longcat_think, think_never_used_51bc, cot_budget_reflect, thought_process ...
_NAME = r"(?:\w+[:_])??(?:think|thought|thinking|reasoning|reflection|analysis|cot)(?:[_:]\w*)?"
_CHANNEL = r"(?:analysis|commentary|thought|thinking)"
# fmt: off
_MARKS = (  # (what a thought begins with, what it ends with)
    (rf"<{_NAME}(?:\s[^<>]*)?>", rf"</{_NAME}\s*>"),
    (rf"◁\s*{_NAME}\s*▷", rf"◁\s*/{_NAME}\s*▷"),
    (r"(?-i:\[THINK(?:ING)?\])", r"(?-i:\[/THINK(?:ING)?\])"),
    (r"<[|｜](?:(?:begin_of_|start_)(?:thought|thinking|reasoning)|think(?:ing)?(?::start)?"
     r"|inner_prefix)[|｜]>",
     r"<[|｜](?:(?:end_of_|end_|/)(?:thought|thinking|think|reasoning)|think(?:ing)?:end"
     r"|inner_suffix)[|｜]>"),
    (rf"<\|?channel\|?>\s*{_CHANNEL}\b(?:\s*<\|message\|>)?",
     r"<channel\|>|<\|channel\|>\s*final\s*(?:<\|message\|>)?"),
    (r"<unused94>", r"<unused95>"),
    (r"\[unused16\]", r"\[unused17\]"),
    (r"<details[^<>]*>\s*<summary>\s*(?:thought|thinking|reasoning)", r"</details>"),
    (r"\A\W*here is my thought process:", r"here is my (?:response|answer):"),
    (r"\A\W*here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),
    (r"\A\W*(?:(?:thoughts?|thinking|thought process|reasoning)(?:\s*:|\*\*)"
     r"|(?:thinking|thought process|reasoning)\s*\n)",
     r"^\W*(?:final\s+)?(?:answer|response|caption|description)\s*:"),
    # harmony and Gemma 4, where the server has dropped the special tokens
    (r"\A\s*(?:assistant)?(?:analysis|commentary)(?=[A-Z\"“])", r"assistantfinal"),
)
# fmt: on
_THOUGHTS = tuple(
    re.compile(rf"(?:{start}).*?(?:{end})", _FLAGS | re.MULTILINE) for start, end in _MARKS
)
_STARTS = tuple(re.compile(start, _FLAGS) for start, _ in _MARKS)
# Ends that stand alone: the chat template wrote the start, which is not in the answer.
_LONE_ENDS = tuple(
    re.compile(rf"\A.*(?:{end})", _FLAGS)
    for end in (*(end for _, end in _MARKS[:7]), r"\[BEGIN FINAL RESPONSE\]")
)
_OPEN_AT_END = tuple(re.compile(rf"(?:{start})\s*\Z", _FLAGS) for start, _ in _MARKS)
_EMPTY_THOUGHT = re.compile(r"\A\s*thought\s*\n")  # Gemma 4 with thinking switched off
_ANSWER = re.compile(
    r"<(answer|response|output|conclusion|final_answer|final)>(.*?)(?:</\1>|\Z)"
    r"|<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>|\Z)",
    _FLAGS,
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said after thinking; `still_thinking` if it never got that far."""

    text: str
    still_thinking: bool


def without_thoughts(text: str) -> Answer:
    """The answer in a model's raw output, without thoughts and without marks around it."""
    for pattern in _THOUGHTS:
        text = pattern.sub(" ", text)
    for pattern in _LONE_ENDS:
        text = pattern.sub("", text, count=1)
    unclosed = [found.start() for start in _STARTS if (found := start.search(text))]
    answer = text[: min(unclosed)] if unclosed else text
    answer = _EMPTY_THOUGHT.sub("", answer)
    inside = [found[2] or found[3] or "" for found in _ANSWER.finditer(answer)]
    spoken = [part for part in inside if part.strip()]
    return Answer(text=spoken[-1] if spoken else answer, still_thinking=bool(unclosed))


def open_thought(prompt: str) -> str:
    """The mark with which `prompt` ends, if it is the start of a thought; else nothing.

    Some chat templates start the thought themselves, so the answer has only its end.
    """
    found = (start.search(prompt) for start in _OPEN_AT_END)
    return next((match[0] for match in found if match), "")
