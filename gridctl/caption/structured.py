"""Answers in JSON, which some models give though nobody asked, as plain text."""

from __future__ import annotations

import json
import re
from typing import Any

from gridctl.errors import GridctlError

# Keys whose value is the caption, the likeliest first.
_KEYS = ("caption", "description", "content", "answer", "text", "summary", "response")
_FENCE = re.compile(r"\A\s*```\w*\s*\n?(.*?)(?:```\s*)?\Z", re.DOTALL)


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
