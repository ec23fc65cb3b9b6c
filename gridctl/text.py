"""Text from outside: files, lists, flags, file names and answers of models.

Whatever comes in is decoded here and made encodable, so that one bad character
cannot end a run when it is written or sent.
"""

from __future__ import annotations

import codecs
import json
import unicodedata
from typing import Any

# Longest first: the UTF-32 mark begins with the UTF-16 one.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_MOST_MARKS = 30


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 or UTF-32 as Windows tools write them.

    A byte order mark decides the encoding and is dropped. Without a mark, NUL bytes in the
    places where UTF-16 has them for ASCII letters mean UTF-16.
    Raises UnicodeDecodeError for anything else.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding)
    if len(data) % 2 == 0 and b"\0" in data:
        even, odd = data[0::2], data[1::2]
        if odd.count(0) > 0.6 * len(odd) and b"\0" not in even:
            return data.decode("utf-16-le")
        if even.count(0) > 0.6 * len(even) and b"\0" not in odd:
            return data.decode("utf-16-be")
    return data.decode("utf-8")


def lines(text: str) -> list[str]:
    """The lines of a list, without line ends and byte order marks.

    Lines end with a line feed only: other separators may be part of a file's name. Byte order
    marks remain in the middle of a file that was joined from several.
    """
    return [line.removesuffix("\r").lstrip("\ufeff") for line in text.split("\n")]


def parse_json(text: str | bytes) -> Any:
    """The value of JSON text from outside. Raises ValueError, also for brackets without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def normal_form(text: str) -> str:
    """`text` in Unicode's normal form C, with at most 30 combining marks in a row.

    No word has more (Unicode annex 15, "Stream-Safe Text"), and sorting more takes very long.
    """
    if text.isascii():
        return text
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def encodable(text: str) -> str:
    """`text` in a form that UTF-8 can hold, in normal form C.

    Two halves of a character (a surrogate pair) are joined. A lone half, and the
    replacement character that decoders put in the place of broken bytes, are dropped.
    """
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return normal_form(joined.replace("\ufffd", ""))


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold `text`: it has no half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
