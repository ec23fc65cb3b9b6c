"""The meaning of a server's response, or of none: an answer, a pause, a failure.

The format is OpenAI's chat completions API, as vLLM, SGLang, llama.cpp, Ollama, OpenRouter and
others speak it, with their differences.
"""

from __future__ import annotations

import json
import os
import re
import socket
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from gridctl.caption.clean import empty_answer, shorten
from gridctl.caption.question import Reply
from gridctl.errors import GridctlError

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
_FILTERED = {"content_filter", "safety", "sensitive", "recitation"}
_AT_LIMIT = {"length", "max_tokens"}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class PassingError(Exception):
    """A failure that may pass; `after_seconds` is the pause that the server asked for.

    `no_listener` means that a port of this machine refused the connection.
    """

    def __init__(
        self,
        reason: str,
        *,
        after_seconds: float | None = None,
        unreachable: bool = False,
        no_listener: bool = False,
    ) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.unreachable = unreachable
        self.no_listener = no_listener


class RequestError(GridctlError):
    """A request that fails however often it is sent; other grids may do better."""


class FinalError(GridctlError):
    """A failure that every grid would meet: the run ends."""


def redacted(text: str, key: str | None) -> str:
    """`text` without the server's key."""
    return text.replace(key, "***") if key else text


def read_reply(response: requests.Response, *, url: str, model: str, key: str | None) -> Reply:
    """The answer in a response.

    Raises PassingError for a failure that may pass, RequestError or GridctlError for one that
    is this grid's, FinalError for one that every grid would meet.
    """
    pause = retry_after_seconds(response.headers.get("Retry-After"))
    if 300 <= response.status_code < 400:
        to = response.headers.get("Location", "elsewhere")
        raise FinalError(f"{url} has moved to {to}; use that with --server.")
    if response.status_code != 200:
        said = error_text(response, key)
        raise refusal(response.status_code, said, url=url, model=model, key=key, pause=pause)
    data = _data(response, url)
    choice = _choice(data)
    if choice is None:
        raise _no_completion(data, url=url, model=model, key=key)
    try:
        return _reply(choice)
    except (LookupError, TypeError, AttributeError):
        said = shorten(json.dumps(choice), 120)
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


def error_text(response: requests.Response, key: str | None) -> str:
    """A server's own words about an error, in one short line without the key."""
    try:
        text = _message(response.json())
    except ValueError:
        text = re.sub(
            r"<(?:style|script|head).*?</(?:style|script|head)>|<[^<>]*>",
            " ",
            response.text,
            flags=re.DOTALL | re.IGNORECASE,
        )
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


def _data(response: requests.Response, url: str) -> Any:
    """The JSON of a response; a stream of events is put together to one completion."""
    text = response.content.decode("utf-8", errors="replace").lstrip("\ufeff \r\n")
    kind = response.headers.get("Content-Type", "")
    if "event-stream" in kind or re.match(r"(?:data|event|id|retry)?:", text):
        return _joined(text)
    try:
        return json.loads(text)
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
    for line in stream.splitlines():
        name, _, value = line.partition(":")
        if name != "data":
            continue
        if value.strip() == "[DONE]":
            ended = True
            continue
        try:
            event = json.loads(value)
        except ValueError:
            raise PassingError("its answer is garbled") from None
        choice = _choice(event)
        if choice is None:
            if isinstance(event, dict) and "choices" in event:
                continue  # the usage, which comes last
            return event
        delta = choice.get("delta") or choice.get("message") or {}
        content.append(delta.get("content") or "")
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
    for code in codes:
        if str(code).isdecimal() and 400 <= int(str(code)) < 600:
            return refusal(int(str(code)), said, url=url, model=model, key=key)
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
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def connection_failure(error: Exception, url: str) -> PassingError | FinalError:
    """The error for a request to `url` that got no response."""
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL):
        return _proxy_failure(error, url)
    if isinstance(error, requests.Timeout):
        unreachable = isinstance(error, requests.ConnectTimeout)
        return PassingError("it does not answer in time", unreachable=unreachable)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_failure(str(error), url)
    if "SOCKS" in str(error) or "proxy" in str(error).lower():
        return _proxy_failure(error, url)
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    root = getattr(cause, "__cause__", None)
    if isinstance(root, socket.gaierror) and root.errno != socket.EAI_AGAIN:
        host = urlsplit(url).hostname
        return _unreachable(url, f"no host has the name {host}", "check --server.")
    if isinstance(cause, NewConnectionError | ConnectTimeoutError):
        refused = isinstance(root, ConnectionRefusedError)
        return PassingError(
            "it refuses the connection" if refused else "it cannot be reached",
            unreachable=True,
            no_listener=refused and _is_this_machine(urlsplit(url).hostname or ""),
        )
    if "BadStatusLine('\\x15\\x03" in str(error):  # a TLS alert
        return _unreachable(url, "it speaks https, not http", "check --server.")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return PassingError("it closes the connection")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return PassingError("its answer is garbled")
    reason = shorten(str(error), 160).rstrip(".")  # a wrong address, header or certificate file
    return _unreachable(url, reason, "correct that, then run it again.")


def _is_this_machine(host: str) -> bool:
    with suppress(ValueError):
        address = ip_address(host)
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _proxy_failure(error: Exception, url: str) -> PassingError | FinalError:
    text = str(error)
    if re.search(r"Tunnel connection failed: 50[234]", text):
        return PassingError("the proxy does not reach it")
    variable, proxy = _proxy_of(url)
    if "Missing dependencies for SOCKS" in text:
        reason = "PySocks is missing"
        remedy = f"run pip install 'requests[socks]', or unset ${variable}."
    else:
        tunnel = re.search(r"Tunnel connection failed: (\d+ [\w ]+)", text)
        reason = f"it answers {tunnel[1]}" if tunnel else _connection_reason(text)
        host = urlsplit(url).hostname
        remedy = f"correct ${variable}, or add {host} to $NO_PROXY."
    return _unreachable(f"{url} through the proxy {proxy}", reason, remedy)


def _connection_reason(text: str) -> str:
    known = ("Connection refused", "timed out", "Name or service not known", "malformed")
    found = next((words for words in known if words in text), None)
    return {"malformed": "its address is malformed", None: "it does not answer"}.get(
        found, str(found).lower()
    )


def _proxy_of(url: str) -> tuple[str, str]:
    """(environment variable, address without password) of the proxy for `url`."""
    scheme = urlsplit(url).scheme
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if value := os.environ.get(name):
            return name, re.sub(r"//[^/@]*@", "//", value)
    return "HTTPS_PROXY", "of this system"


def _tls_failure(text: str, url: str) -> PassingError | FinalError:
    if "EOF" in text:
        return PassingError("it closes the connection")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = re.search(r"certificate verify failed: ([^(\[]+)", text)
        reason = "its certificate is not trusted here"
        return _unreachable(
            url,
            f"{reason}: {why[1].strip()}" if why else reason,
            "check --server, or name the certificate's authority in $REQUESTS_CA_BUNDLE.",
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return _unreachable(url, "it speaks http, not https", "check --server.")
    found = re.search(r"\[SSL: (\w+)\]", text)
    reason = f"TLS fails with {found[1]}" if found else "TLS fails"
    return _unreachable(url, reason, "check --server.")


def _unreachable(what: str, reason: str, remedy: str) -> FinalError:
    return FinalError(f"{what} cannot be reached ({reason}); {remedy}")
