"""A model's answer → plain sentences, without markup and thoughts; refusals are errors."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from gridctl.errors import GridctlError
from gridctl.text import encodable

# fmt: off
_MARKUP = (  # in this order
    (re.compile(r"<[|｜][^<>|｜]{1,60}[|｜]>|◁[^◁▷]{1,60}▷"), " "),  # <|im_end|>, <|begin_of_box|>
    (re.compile(r"\[/?(?:INST|gMASK|(?:BEGIN|END) FINAL RESPONSE)\]"), " "),
    (re.compile(r"</?\|?[A-Za-z][^<>]{0,200}>"), " "),    # HTML, <s>, <|turn>, <channel|>
    (re.compile(r"\\boxed\{([^{}]*)\}"), r"\1"),
    (re.compile(r"^\s*```.*$", re.MULTILINE), ""),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),      # links and pictures
    (re.compile(r"^\s*(?:#{1,6}\s[^\n.!?。]{1,60}|\*\*[^\n*.!?。]{1,60}\*\*:?)\n(?=\s*\S)",
     re.MULTILINE), ""),                                  # titles
    (re.compile(r"^\s{0,3}#{1,6}\s+", re.MULTILINE), ""),
    (re.compile(r"\\n"), "\n"),                           # escaped twice
    (re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+", re.MULTILINE), ""),
    (re.compile(r"^\s*[-*_=]{3,}\s*$", re.MULTILINE), ""),
    (re.compile(r"\*\*|__|`"), ""),
    (re.compile(r"(?<!\w)[*_](\S(?:[^*_\n]*\S)?)[*_](?!\w)"), r"\1"),
    (re.compile(r"^\s*>\s?", re.MULTILINE), ""),
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
    r"anything else\b|would you like me to\b|if you (?:need|want|would like|have)\b[^.]*\b(?:let "
    r"me|ask|tell me)\b)[^.!?]*[.!?]+\Z",
    re.IGNORECASE,
)
# The conversation before the answer, which some servers repeat.
_ECHO = re.compile(
    r"\A\s*(?:system|user|human)\s*:?\s*\n.*^\s*(?:assistant|model)\s*:?\s*\n",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"(?:(?:i['’]?m|i am)\s+(?:very\s+|really\s+)?(?:sorry|unable|not able)\b"
    r"|sorry\s*[,.!]|(?:sorry|unfortunately),?\s+(?:but\s+)?i\b|my apologies"
    r"|i\s+(?:can['’]?t|cannot|can not|could not|couldn['’]t|won['’]t|will not|do not|don['’]t)\s+"
    r"(?:assist|help|describe|see|view|provide|identify|process|create|fulfil|have|comply|answer)"
    r"|as an ai\b|as a (?:large )?language model|抱歉|对不起|很抱歉|我无法|作为一个"
    r"|申し訳|ich kann (?:dabei )?(?:leider )?nicht|lo siento|je suis désolé)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」）]*|$)\s*")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」"}
# Keys whose value is the caption, the likeliest first.
_KEYS = ("caption", "description", "content", "answer", "text", "summary", "response")
_FENCE = re.compile(r"\A\s*```\w*\s*\n?(.*?)(?:```\s*)?\Z", re.DOTALL)

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
_NAME = r"(?:\w+[:_])??(?:think|thought|thinking|reasoning|reflection|analysis|cot)(?:[_:]\w*)?"
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


def clean_answer(text: str, *, finished: bool = True) -> str:
    """`text` on one line, as sentences only.

    `finished` is False if the model reached its token limit: an incomplete last sentence is
    then dropped. Raises GridctlError if nothing is left, or if the model refuses to describe
    the grid.
    """
    spoken, still_thinking = without_thoughts(encodable(text))
    answer = html.unescape(without_json(_ECHO.sub("", spoken)))
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
    return [found for found in _SENTENCE.findall(text) if found]


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
    ends = re.search(r"(?:[.!?…]+[\"'”’)\]]*|[。！？]+[”’」）]*)$", last.rstrip())
    return text if ends or not whole else "".join(whole).rstrip()


def without_thoughts(text: str) -> tuple[str, bool]:
    """(answer, whether the model was still thinking at its end) in a model's raw output.

    The answer is without thoughts and without marks around it.
    """
    for pattern in _THOUGHTS:
        text = pattern.sub(" ", text)
    for pattern in _LONE_ENDS:
        text = pattern.sub("", text, count=1)
    unclosed = [found.start() for start in _STARTS if (found := start.search(text))]
    answer = text[: min(unclosed)] if unclosed else text
    answer = _EMPTY_THOUGHT.sub("", answer)
    inside = [found[2] or found[3] or "" for found in _ANSWER.finditer(answer)]
    spoken = [part for part in inside if part.strip()]
    return spoken[-1] if spoken else answer, bool(unclosed)


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
    fenced = _FENCE.match(text)
    inner = (fenced[1] if fenced else text).strip()
    if not re.match(r"\{\s*\"|\[\s*[\"{\[]", inner):
        return text
    try:
        found = " ".join(_texts(json.loads(inner)))
    except ValueError:
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
