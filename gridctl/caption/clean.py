"""A model's answer → plain sentences, without markup and thoughts; refusals are errors."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from gridctl.caption.structured import without_json
from gridctl.caption.thinking import without_thoughts
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


def clean_answer(text: str, *, finished: bool = True) -> str:
    """`text` on one line, as sentences only.

    `finished` is False if the model reached its token limit: an incomplete last sentence is
    then dropped. Raises GridctlError if nothing is left, or if the model refuses to describe
    the grid.
    """
    spoken = without_thoughts(encodable(text))
    answer = html.unescape(without_json(_ECHO.sub("", spoken.text)))
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
        raise empty_answer(still_thinking=spoken.still_thinking, finished=finished)
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
