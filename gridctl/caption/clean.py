"""A model's answer → plain sentences: no markup, no thinking aloud, no refusal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from gridctl.errors import GridctlError

_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"^.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT_OPEN = re.compile(r"<think(?:ing)?>.*", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL | re.IGNORECASE)
# fmt: off
_MARKUP = (  # in this order
    (re.compile(r"<\|[^<>|]{1,60}\|>"), " "),             # <|im_end|>, <|begin_of_box|>
    (re.compile(r"\[/?(?:INST|gMASK)\]|<s(?:op)?>|</s>"), " "),
    (re.compile(r"</?[A-Za-z][^<>]{0,200}>"), " "),       # HTML
    (re.compile(r"^\s*```.*$", re.MULTILINE), ""),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),      # links and pictures
    (re.compile(r"^\s{0,3}#{1,6}\s+", re.MULTILINE), ""),
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


def clean_answer(text: str, *, finished: bool = True) -> str:
    """`text` on one line, as sentences only.

    `finished` is False if the model was stopped at its token limit: a last sentence that
    is not whole is then left out. Raises GridctlError for an answer that is empty once
    cleaned, or that refuses to describe the grid.
    """
    thoughts = _THOUGHT_END.sub("", _THOUGHT.sub(" ", text))
    answer = _THOUGHT_OPEN.sub("", thoughts)
    if (inside := _ANSWER.search(answer)) is not None:
        answer = inside[1]
    for pattern, replacement in _MARKUP:
        answer = pattern.sub(replacement, answer)
    answer = "".join(" " if unicodedata.category(c) == "Cc" else c for c in answer)
    answer = "".join(c for c in answer if unicodedata.category(c) != "Cf")  # within words, too
    answer = " ".join(answer.split())
    for pattern in _OPENINGS:
        answer = pattern.sub("", answer, count=1)
    answer = _unquoted(answer)
    if not finished:
        answer = _whole_sentences(answer)
    if not any(character.isalnum() for character in answer):
        if "<think" in thoughts.lower():
            raise GridctlError(
                "the model was still thinking when its tokens ran out; raise caption.max_tokens."
            )
        if not finished:
            raise GridctlError(
                "the model's tokens ran out before its answer; raise caption.max_tokens."
            )
        raise GridctlError("the model's answer is empty; try again, or another prompt or model.")
    if _REFUSAL.match(answer):
        raise GridctlError(
            f"the model refuses to describe it ({shorten(answer, 80)}); "
            "try another prompt or model."
        )
    return answer


def sentences(text: str) -> list[str]:
    """The sentences of one line, each with the blank after it: joined they are the line."""
    return [found for found in _SENTENCE.findall(text) if found]


def cut(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of `text` that `fits`: whole sentences, else whole words.

    `fits` holds for every beginning of a text for which it holds.
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
    """The most leading `parts` that fit together, found by halving."""
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
