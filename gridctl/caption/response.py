"""The meaning of a server's response: an answer, or a failure.

The format is OpenAI's chat completions API, as vLLM, SGLang, llama.cpp, Ollama, OpenRouter and
others speak it, with their differences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from gridctl.caption.clean import empty_answer, shorten, without_spans
from gridctl.caption.failures import (
    FinalError,
    PassingError,
    RequestError,
    redacted,
    without_secrets,
)
from gridctl.caption.question import Reply
from gridctl.errors import GridctlError
from gridctl.text import parse_json

_BUSY = {408, 409, 425, 429}  # and all 5xx: tried again
_NO_SUCH = {404, 405, 410}
_UNPAID = re.compile(
    r"insufficient[_ ](?:quota|balance|funds|credits?)|exceeded (?:your )?current[_ ]quota"
    r"|exceeded_current_quota|credit balance|arrear|billing|out of credits|payment required",
    re.IGNORECASE,
)
_MODERATED = re.compile(
    r"content[_ ](?:policy|filter|management)|moderation|flagged|data_inspection_failed"
    r"|inappropriate content|safety (?:system|filter|policy)",
    re.IGNORECASE,
)
_NO_PICTURES = re.compile(
    r"(?:not|n['’]t|unsupported|only)\b[^.]{0,60}\b(?:image|vision|multimodal)"
    r"|(?:image|vision|multimodal)[^.]{0,60}\b(?:not|n['’]t|unsupported)\b|at most \d+ image",
    re.IGNORECASE,
)
_MAY_PASS = re.compile(
    r"overload|busy|rate.?limit|too many requests|capacity|time.?out|timed out|try again|retry"
    r"|temporar|unavailable|loading",
    re.IGNORECASE,
)
# Parts of a page that nobody sees, and its other tags.
_UNSEEN_START = re.compile(r"<(?:style|script|head)\b", re.IGNORECASE)
_UNSEEN_END = re.compile(r"</(?:style|script|head)>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_FILTERED = {"content_filter", "safety", "sensitive", "recitation"}
_AT_LIMIT = {"length", "max_tokens"}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True, kw_only=True)
class Response:
    """A whole HTTP response. `headers` finds a name in upper and lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace").lstrip("\ufeff \r\n")


def read_reply(response: Response, *, url: str, model: str, key: str | None) -> Reply:
    """The answer in a response.

    Raises PassingError for a failure that may pass, RequestError or GridctlError for one that
    is this grid's, FinalError for one that every grid would meet.
    """
    pause = retry_after_seconds(response.headers.get("Retry-After"))
    if 300 <= response.status < 400:
        to = without_secrets(response.headers.get("Location", "elsewhere"))
        raise FinalError(f"{url} has moved to {to}; use that with --server.")
    if response.status != 200:
        said = error_text(response, key)
        raise refusal(response.status, said, url=url, model=model, key=key, pause=pause)
    try:
        data = _data(response, url)
        choice = _choice(data)
        if choice is None:
            raise _no_completion(data, url=url, model=model, key=key)
        return _reply(choice)
    except (LookupError, TypeError, AttributeError, RecursionError):  # any JSON may come
        said = shorten(redacted(response.text[:200], key), 120)
        raise RequestError(f"{url} answers with no completion ({said}); check --server.") from None


def refusal(
    code: int, said: str, *, url: str, model: str, key: str | None, pause: float | None = None
) -> Exception:
    """The exception for an HTTP status code, which stands in the status line or in the body."""
    reason = f"{code}: {said}"
    if code == 402 or (400 <= code < 500 and _UNPAID.search(said)):
        return FinalError(
            f"{url} wants payment ({reason}); add credit, then run it again: existing captions are "
            "kept."
        )
    if code in _BUSY or code >= 500:
        return PassingError(f"it answers {code} ({said})", after_seconds=pause)
    if _MODERATED.search(said):
        return GridctlError(f"the server refuses to describe it ({said}); try another prompt.")
    if code in (401, 403):
        return wrong_key(url, key, reason)
    if code in _NO_SUCH:
        return FinalError(
            f"{url} has no such model or address ({reason}); check --server and --model {model}."
        )
    if _NO_PICTURES.search(said):
        remedy = f"check that {model} sees pictures, or try another --view."
    elif code == 413:
        remedy = "lower caption.image_side."
    else:
        remedy = "check caption.request, caption.image_side and --view."
    return RequestError(f"{url} refuses the request ({reason}); {remedy}")


def wrong_key(url: str, key: str | None, reason: str) -> FinalError:
    """The error for a server that wants another key."""
    return FinalError(
        f"{url} refuses {'the key' if key else 'to answer without a key'} ({reason}); "
        "put the right one into the environment (caption.key_variable)."
    )


def error_text(response: Response, key: str | None) -> str:
    """A server's own words about an error, in one short line without the key."""
    try:
        text = _message(parse_json(response.text))
    except (ValueError, RecursionError):
        text = _TAG.sub(" ", without_spans(response.text, _UNSEEN_START, _UNSEEN_END))
    return shorten(redacted(text, key), 160) or "no reason given"


def _message(data: Any) -> str:
    """The message in an error's JSON: {"error": {"message": …}}, {"detail": …}, a string …"""
    while isinstance(data, dict):
        for name in ("error", "message", "detail", "msg"):
            if data.get(name):
                code = data.get("code") or data.get("type")
                inner = data[name]
                if isinstance(inner, str) and isinstance(code, str) and code not in inner:
                    return f"{inner} [{code}]"
                data = inner
                break
        else:
            return json.dumps(data, ensure_ascii=False)
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def _data(response: Response, url: str) -> Any:
    """The JSON of a response; a stream of events is put together to one completion."""
    text = response.text
    kind = response.headers.get("Content-Type", "")
    if "event-stream" in kind or re.match(r"(?:data|event|id|retry)?:", text):
        return _joined(text)
    try:
        return parse_json(text)
    except ValueError:
        if text.startswith("{") or not text:
            raise PassingError("its answer is cut off") from None
        raise RequestError(
            f"{url} answers with no completion but with a page ({shorten(text, 60)}); "
            "check the address in --server."
        ) from None


def _joined(stream: str) -> Any:
    """Server-sent events → the completion that they make up; the last error, if there is one."""
    content: list[str] = []
    thoughts: list[str] = []
    finish = None
    ended = False
    for line in re.split(r"\r\n|\n|\r", stream):  # JSON may contain other line separators
        name, _, value = line.partition(":")
        if name != "data":
            continue
        if value.strip() == "[DONE]":
            ended = True
            continue
        try:
            event = parse_json(value)
        except ValueError:
            raise PassingError("its answer is garbled") from None
        choice = _choice(event)
        if choice is None:
            if isinstance(event, dict) and "choices" in event:
                continue  # the usage, which comes last
            return event
        delta = choice.get("delta") or choice.get("message") or {}
        content += [part] if isinstance(part := delta.get("content"), str) else []
        thoughts += [delta[name] for name in _THOUGHTS if isinstance(delta.get(name), str)]
        finish = choice.get("finish_reason") or finish
    if not (ended or finish):
        raise PassingError("its answer is cut off")
    message = {"content": "".join(content), "reasoning_content": "".join(thoughts)}
    return {"choices": [{"message": message, "finish_reason": finish}]}


def _choice(data: Any) -> dict[str, Any] | None:
    """The first choice of a completion without an error."""
    try:
        choice = data["choices"][0]
    except (LookupError, TypeError):
        return None
    return choice if isinstance(choice, dict) and not choice.get("error") else None


def _no_completion(data: Any, *, url: str, model: str, key: str | None) -> Exception:
    """The exception for a body without an answer, though the status was 200."""
    if isinstance(data, dict) and data.get("choices") == []:
        return PassingError("its answer has no choices")
    if isinstance(data, dict) and data.get("choices"):
        data = data["choices"][0]  # the error of the only choice
    said = shorten(redacted(_message(data), key), 160)
    error = data.get("error", data) if isinstance(data, dict) else None
    codes = [error.get(name) for name in ("code", "status")] if isinstance(error, dict) else []
    for code in map(str, codes):
        if re.fullmatch(r"[45][0-9]{2}", code):
            return refusal(int(code), said, url=url, model=model, key=key)
    if _UNPAID.search(said):
        return refusal(402, said, url=url, model=model, key=key)
    if _MAY_PASS.search(said):
        return PassingError(f"it answers with an error ({said})")
    return RequestError(
        f"{url} answers with an error ({said}); check --server, --model and caption.request."
    )


def _reply(choice: dict[str, Any]) -> Reply:
    message, finish = choice["message"], str(choice.get("finish_reason")).lower()
    content, refused = message.get("content"), message.get("refusal")
    if isinstance(content, list):  # in parts, of which those of thinking have no text
        parts = (part if isinstance(part, str) else part.get("text") for part in content)
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str | None):
        raise TypeError
    if refused or finish in _FILTERED:
        why = shorten(str(refused or "its content filter"), 80)
        raise GridctlError(f"the model refuses to describe it ({why}); try another prompt.")
    if finish == "error":
        raise PassingError("it stops in the middle of its answer")
    thoughts = next((message[name] for name in _THOUGHTS if message.get(name)), None)
    if not (content or "").strip() and thoughts:
        if finish in _AT_LIMIT:
            raise empty_answer(still_thinking=True, finished=False)
        raise GridctlError(
            f"the model thinks ({len(str(thoughts))} characters) but answers nothing; raise "
            "caption.max_tokens, or switch off the server's reasoning parser."
        )
    return Reply(text=content or "", finished=finish not in _AT_LIMIT)


def retry_after_seconds(header: str | None) -> float | None:
    """The pause in a Retry-After header, seconds or a date (RFC 9110, 10.2.3); None if neither."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, OverflowError, TypeError):
        return None
