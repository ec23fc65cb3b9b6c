"""A model's answer → plain sentences, without markup and thoughts; refusals are errors.

An answer may be anything of any length, so each step takes time in proportion to it: no pattern
can match one text in many ways, and what is between two marks is found by searching for them.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from gridctl.errors import GridctlError
from gridctl.text import encodable, parse_json

_SPACE = r"[^\S\n]*"  # within a line
# fmt: off
_MARKUP = (  # in this order
    (re.compile(r"<[|｜][^<>|｜]{1,60}[|｜]>|◁[^◁▷]{1,60}▷"), " "),  # <|im_end|>, <|begin_of_box|>
    (re.compile(r"\[/?(?:INST|gMASK|(?:BEGIN|END) FINAL RESPONSE)\]"), " "),
    (re.compile(r"</?\|?[A-Za-z][^<>]{0,200}>"), " "),    # HTML, <s>, <|turn>, <channel|>
    (re.compile(r"\\boxed\{([^{}]*)\}"), r"\1"),
    (re.compile(rf"^{_SPACE}```.*$", re.MULTILINE), ""),
    (re.compile(r"!?\[([^\[\]]*)\]\([^)\n]{0,300}\)"), r"\1"),      # links and pictures
    (re.compile(rf"^{_SPACE}(?:#{{1,6}}\s[^\n.!?。]{{1,60}}|\*\*[^\n*.!?。]{{1,60}}\*\*:?)\n(?=\s*\S)",
     re.MULTILINE), ""),                                  # titles
    (re.compile(r"^[^\S\n]{0,3}#{1,6}\s+", re.MULTILINE), ""),
    (re.compile(r"\\n"), "\n"),                           # escaped twice
    (re.compile(rf"^{_SPACE}(?:[-*•]|\d{{1,2}}[.)])\s+", re.MULTILINE), ""),
    (re.compile(rf"^{_SPACE}[-*_=]{{3,}}{_SPACE}$", re.MULTILINE), ""),
    (re.compile(r"\*\*|__|`"), ""),
    (re.compile(r"(?<!\w)[*_](\S(?:[^*_\n]*\S)?)[*_](?!\w)"), r"\1"),
    (re.compile(rf"^{_SPACE}>\s?", re.MULTILINE), ""),
)
# fmt: on
_OPENINGS = (
    re.compile(  # not "Sure-footed goats climb." nor "Absolutely still water lies there."
        r"^(?:sure(?: thing)?|certainly|of course|absolutely|okay)"
        r"(?:[.:!]|,?\s+(?:here|this|below|i|i['’]\w+|let)\b[^.:!\n]{0,80}[.:!])\s*",
        re.I,
    ),
    re.compile(r"^here(?:'s| is| are)\b[^.:!\n]{0,80}:\s*", re.I),
    re.compile(r"^(?:assistant|caption|description|answer)\s*:\s*", re.I),
)
_CLOSING = re.compile(
    r"(?<=[.!?])\s+(?:(?:please )?let me know\b|feel free to\b|i hope (?:this|that)\b|is there "
    r"anything else\b|would you like me to\b|if you (?:need|want|would like|have)\b[^.]{0,150}\b"
    r"(?:let me|ask|tell me)\b)[^.!?]{0,150}[.!?]+\Z",
    re.IGNORECASE,
)
# The lines before a turn of a conversation, which some servers repeat before the answer.
_ASKED, _ANSWERED = {"system", "user", "human"}, {"assistant", "model"}
_REFUSAL = re.compile(
    r"(?:(?:i['’]?m|i am)\s+(?:very\s+|really\s+)?(?:sorry|unable|not able)\b"
    r"|sorry\s*[,.!]|(?:sorry|unfortunately),?\s+(?:but\s+)?i\b|my apologies"
    r"|i\s+(?:can['’]?t|cannot|can not|could not|couldn['’]t|won['’]t|will not|do not|don['’]t)\s+"
    r"(?:assist|help|describe|see|view|provide|identify|process|create|fulfil|have|comply|answer)"
    r"|as an ai\b|as a (?:large )?language model|抱歉|对不起|很抱歉|我无法|作为一个"
    r"|申し訳|ich kann (?:dabei )?(?:leider )?nicht|lo siento|je suis désolé)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"([.!?…]+)[\"'”’)\]]*|([。！？]+)[”’」）]*")
_CLOSERS = "\"'”’)]」）"
_HUGE_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{8,};?")  # html.unescape fails on these
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」"}
# Keys whose value is the caption, the likeliest first.
_KEYS = ("caption", "description", "content", "answer", "text", "summary", "response")
_FENCE = re.compile(r"```\w*\s*")

# Reasoning models mark their thoughts in many ways, and a server without the right reasoning
# parser passes the marks on. Known marks, by who writes them:
#
#     <think> </think>              DeepSeek, Qwen, GLM, Phi, MiniMax, InternVL and most others
#     <thought>, <thinking>, <reasoning>, <analysis>          EXAONE, Reflection, Keye, LLaVA-CoT
#     <seed:think>, <longcat_think>, <mm:think>               Seed-OSS, LongCat, MiniMax
#     ◁think▷ ◁/think▷                                        Kimi-VL
#     [THINK] [/THINK]                                        Magistral
#     <|channel|>analysis<|message|> … <|channel|>final       gpt-oss (harmony)
#     <|channel>thought … <channel|>, <unused94> … <unused95> Gemma 4, MedGemma
#     <|START_THINKING|> <|END_THINKING|>                     Cohere Command
#     <|begin_of_thought|> <|end_of_thought|>                 OpenThinker, Sky-T1
#     <|think:start|>, <|inner_prefix|>, [unused16]           Solar, Apertus, Pangu
#     "Here is my thought process:" … "Here is my response:"  Granite
#     "Here are my reasoning steps:" … [BEGIN FINAL RESPONSE] Apriel
_FLAGS = re.DOTALL | re.IGNORECASE
# seed:think, longcat_think, think_never_used_51bc, cot_budget_reflect, thought_process ...
_NAME = (
    r"(?:\w{1,40}[:_])??(?:think|thought|thinking|reasoning|reflection|analysis|cot)"
    r"(?:[_:]\w{0,80})?"
)
_CHANNEL = r"(?:analysis|commentary|thought|thinking)"
# fmt: off
_MARKS = (  # (start of a thought, its end)
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
     r"^[^\w\n]*(?:final\s+)?(?:answer|response|caption|description)\s*:"),
    # harmony and Gemma 4, where the server has dropped the special tokens
    (r"\A\s*(?:assistant)?(?:analysis|commentary)(?=[A-Z\"“])", r"assistantfinal"),
)
# fmt: on
_STARTS = tuple(re.compile(start, _FLAGS) for start, _ in _MARKS)
_ENDS = tuple(re.compile(end, _FLAGS | re.MULTILINE) for _, end in _MARKS)
# Ends that stand alone: the chat template wrote the start, which is not in the answer.
_LONE_ENDS = (*_ENDS[:7], re.compile(r"\[BEGIN FINAL RESPONSE\]", _FLAGS))
_OPEN_AT_END = tuple(re.compile(rf"(?:{start})\s*\Z", _FLAGS) for start, _ in _MARKS)
_EMPTY_THOUGHT = re.compile(r"\A\s*thought\s*\n")  # Gemma 4 with thinking switched off
_ANSWER = re.compile(
    r"<(answer|response|output|conclusion|final_answer|final)>(.*?)(?:</\1>|\Z)"
    r"|<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>|\Z)",
    _FLAGS,
)


def clean_answer(text: str, *, finished: bool = True) -> str:
    """`text` on one line, as sentences only.

    `finished` is False if the model reached its token limit: an incomplete last sentence is
    then dropped. Raises GridctlError if nothing is left, or if the model refuses to describe
    the grid.
    """
    spoken, still_thinking = without_thoughts(encodable(text))
    answer = without_json(_without_echo(spoken))
    answer = html.unescape(_HUGE_REFERENCE.sub("", answer))
    for pattern, replacement in _MARKUP:
        answer = pattern.sub(replacement, answer)
    answer = "".join(" " if unicodedata.category(c) == "Cc" else c for c in answer)
    answer = "".join(c for c in answer if unicodedata.category(c) != "Cf")  # also within words
    answer = " ".join(answer.split())
    for pattern in _OPENINGS:
        answer = pattern.sub("", answer, count=1)
    answer = _CLOSING.sub("", answer)
    answer = _unquoted(answer)
    if not finished:
        answer = _whole_sentences(answer)
    if not any(character.isalnum() for character in answer):
        raise empty_answer(still_thinking=still_thinking, finished=finished)
    if _REFUSAL.match(answer):
        raise GridctlError(
            f"the model refuses to describe it ({shorten(answer, 80)}); "
            "try another prompt or model."
        )
    return answer


def empty_answer(*, still_thinking: bool, finished: bool) -> GridctlError:
    """What to raise for an answer without content."""
    if still_thinking:
        return GridctlError(
            "the model was still thinking when it reached its token limit; raise "
            "caption.max_tokens."
        )
    if not finished:
        return GridctlError(
            "the model reached its token limit before its answer; raise caption.max_tokens."
        )
    return GridctlError("the model's answer is empty; try again, or another prompt or model.")


def sentences(text: str) -> list[str]:
    """The sentences of a line, each with the space after it; joined they are the line again."""
    found, start = [], 0
    for mark in _SENTENCE_END.finditer(text):
        end = mark.end()
        # Abbreviations and numbers go on at once: "3.5 m". A lone mark begins no sentence.
        if mark[1] and end < len(text) and not text[end].isspace():
            continue
        if mark.start() == start and len(mark[1] or mark[2]) == 1:
            continue
        while end < len(text) and text[end].isspace():
            end += 1
        found.append(text[start:end])
        start = end
    return [*found, text[start:]] if start < len(text) else found


def cut(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of `text` that `fits`: whole sentences, else whole words.

    If a text fits, every beginning of it has to fit, too.
    """
    if fits(text):
        return text
    whole = _longest(sentences(text), fits)
    return (whole or _longest(re.findall(r"\S+\s*", text), fits)).rstrip()


def shorten(text: str, length: int) -> str:
    """`text` on one line of at most `length` characters, for a message."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."


def _longest(parts: list[str], fits: Callable[[str], bool]) -> str:
    """As many leading `parts` as fit together, by binary search."""
    low, high = 0, len(parts)
    while low < high:
        middle = (low + high + 1) // 2
        if fits("".join(parts[:middle]).rstrip()):
            low = middle
        else:
            high = middle - 1
    return "".join(parts[:low])


def _unquoted(text: str) -> str:
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    return text


def _whole_sentences(text: str) -> str:
    *whole, last = sentences(text) or [""]
    ends = last.rstrip().rstrip(_CLOSERS).endswith(tuple(".!?…。！？"))
    return text if ends or not whole else "".join(whole).rstrip()


def _without_echo(text: str) -> str:
    """An answer without the conversation before it."""
    lines = text.split("\n")
    roles = [line.strip().removesuffix(":").rstrip().casefold() for line in lines]
    if next(filter(None, roles), None) not in _ASKED:
        return text
    turns = (number for number, role in enumerate(roles[:-1]) if role in _ANSWERED)
    return "\n".join(lines[max(turns, default=-1) + 1 :])


def without_thoughts(text: str) -> tuple[str, bool]:
    """(answer, whether the model was still thinking at its end) in a model's raw output.

    The answer is without thoughts and without marks around it.
    """
    for start, end in zip(_STARTS, _ENDS, strict=True):
        text = without_spans(text, start, end)
    for end in _LONE_ENDS:
        text = text[max((mark.end() for mark in end.finditer(text)), default=0) :]
    unclosed = [found.start() for start in _STARTS if (found := start.search(text))]
    answer = text[: min(unclosed)] if unclosed else text
    answer = _EMPTY_THOUGHT.sub("", answer)
    inside = [found[2] or found[3] or "" for found in _ANSWER.finditer(answer)]
    spoken = [part for part in inside if part.strip()]
    return spoken[-1] if spoken else answer, bool(unclosed)


def without_spans(text: str, start: re.Pattern[str], end: re.Pattern[str]) -> str:
    """`text` with a space for each part from a match of `start` to the next one of `end`."""
    kept, at = [], 0
    while (first := start.search(text, at)) and (last := end.search(text, first.end())):
        kept.append(text[at : first.start()])
        at = last.end()
    return " ".join([*kept, text[at:]])


def open_thought(prompt: str) -> str:
    """The mark with which `prompt` ends, if it is the start of a thought; else nothing.

    Some chat templates start the thought themselves, so the answer has only its end.
    """
    found = (start.search(prompt) for start in _OPEN_AT_END)
    return next((match[0] for match in found if match), "")


def without_json(text: str) -> str:
    """The caption in an answer that is a JSON object or list; any other text as it is.

    Raises GridctlError for an object that is not whole, or that holds no text.
    """
    inner = text.strip()
    if fence := _FENCE.match(inner):
        inner = inner[fence.end() :].removesuffix("```").strip()
    if not re.match(r"\{\s*\"|\[\s*[\"{\[]", inner):
        return text
    try:
        found = " ".join(_texts(parse_json(inner)))
    except (ValueError, RecursionError):
        found = ""
    if not found:
        raise GridctlError(
            "the model answers with JSON that holds no caption; ask for plain sentences in "
            "caption.prompt, or raise caption.max_tokens if it is cut off."
        )
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if not isinstance(value, dict):
        return []
    by_key = {str(key).casefold(): item for key, item in value.items()}
    likely = next((by_key[key] for key in _KEYS if by_key.get(key)), None)
    return _texts(list(value.values()) if likely is None else likely)
