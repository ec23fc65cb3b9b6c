"""The backend `server`: grids described by any OpenAI-compatible endpoint, many at once."""

from __future__ import annotations

import base64
import json
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from gridctl.caption.clean import shorten
from gridctl.caption.gate import Gate, backoff_seconds, retry_after_seconds
from gridctl.caption.question import Answers, Question, Reply
from gridctl.errors import GridctlError, UsageError
from gridctl.profile import CaptionSection

CONNECT_SECONDS = 10.0
LONGEST_REST_SECONDS = 3600.0  # a server that wants a longer one is left for today
_BUSY = {408, 409, 425, 429}  # and all 5xx: tried again
_HOPELESS = {401, 403, 404, 405}  # no other request will fare better

Answer = tuple[Question, Reply | GridctlError]


class _PassingError(Exception):
    """Failed for a reason that may pass; `after_seconds` is what the server asked for."""

    def __init__(
        self, reason: str, *, after_seconds: float | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.unreachable = unreachable


class _FinalError(GridctlError):
    """Fails for every grid alike: the run ends."""


@dataclass(frozen=True, kw_only=True)
class ServerDescriber:
    """Asks `model` on the OpenAI-compatible server of `settings`, many requests at once.

    A failure that may pass (no connection, a timeout, 429, 5xx, a garbled answer) is tried
    again `settings.retries` times, after a growing pause or after the one that the server
    asks for. Nothing else is sent during the latter.

    Raises UsageError for an address that is not an HTTP server's.
    """

    settings: CaptionSection
    model: str
    key: str | None = field(default=None, repr=False)
    first_backoff_seconds: float = 1.0

    backend = "server"

    def __post_init__(self) -> None:
        base_url(self.url)

    @property
    def url(self) -> str:
        return self.settings.server or ""

    def describe(self, questions: Iterator[Question]) -> Answers:
        """Each question with its answer, in the order in which they come.

        Raises GridctlError if the server cannot be reached, refuses the key or has no such
        model: the questions that are left would fare no better.
        """
        run = _Run(self, questions)
        # As many again prepare their pictures while the others wait for the server.
        threads = [
            threading.Thread(target=run.work, daemon=True)
            for _ in range(2 * self.settings.concurrency)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                while (answer := run.answers.get()) is not None:
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
        finally:
            run.stop.set()  # the threads end by themselves, and a hanging one holds nobody up

    def body(self, question: Question) -> bytes:
        """The request about a grid, its pictures included; made once, however often it is sent."""
        parts: list[dict[str, Any]] = [
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"},
            }
            for file in question.encoded()
        ]
        parts.append({"type": "text", "text": question.text})
        message = {"role": "user", "content": parts}
        body: dict[str, Any] = {"model": self.model, "messages": [message]}
        if "max_completion_tokens" not in self.settings.request:  # the newer name of the same
            body["max_tokens"] = self.settings.max_tokens
        return json.dumps({**body, **self.settings.request}).encode()


class _Run:
    """What the threads of one `describe` share."""

    def __init__(self, server: ServerDescriber, questions: Iterator[Question]) -> None:
        self.server = server
        self.questions = questions
        self.answers: queue.SimpleQueue[Answer | BaseException | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.taking = threading.Lock()
        self.slots = threading.Semaphore(server.settings.concurrency)
        self.preparing = threading.Semaphore(os.cpu_count() or 1)
        self.gate = Gate(server.settings.rate)

    def work(self) -> None:
        """One thread: take a question, prepare it, send it, hand in the answer; then the next."""
        try:
            with requests.Session() as session:
                while (question := self.take()) is not None:
                    try:
                        with self.preparing:
                            body = self.server.body(question)
                        with self.slots:
                            reply = self.ask(session, body)
                    except _FinalError:
                        raise
                    except GridctlError as error:
                        self.answers.put((question, error))
                    else:
                        if reply is not None:
                            self.answers.put((question, reply))
            self.answers.put(None)
        except BaseException as error:  # the main thread raises it
            self.answers.put(error)

    def take(self) -> Question | None:
        with self.taking:
            return None if self.stop.is_set() else next(self.questions, None)

    def ask(self, session: requests.Session, body: bytes) -> Reply | None:
        """The answer to one request; None if the run was stopped meanwhile."""
        server, attempt = self.server, 0
        while True:
            self.gate.pass_through(self.stop)
            if self.stop.is_set():
                return None
            try:
                return _post(session, server, body)
            except _PassingError as error:
                rest = error.after_seconds
                if rest is not None and rest > LONGEST_REST_SECONDS:
                    raise _FinalError(
                        f"{server.url} wants no request for {rest / 3600:.1f} hours; run it again "
                        "after that."
                    ) from None
                if attempt == server.settings.retries:
                    raise _given_up(server, error) from None
                if rest is not None:
                    self.gate.close(rest)
                else:
                    self.stop.wait(backoff_seconds(attempt, server.first_backoff_seconds))
                attempt += 1


def only_model(url: str, *, key: str | None = None) -> str:
    """The name of the one model that the server has.

    Raises UsageError if it has several or none, GridctlError if it does not answer.
    """
    address = f"{base_url(url)}/models"
    try:
        response = requests.get(
            address, headers=_headers(key), timeout=CONNECT_SECONDS, auth=_no_netrc
        )
        if response.status_code in (401, 403):
            raise _wrong_key(url, key, response)
        response.raise_for_status()
        names = [str(model["id"]) for model in response.json()["data"]]
    except (requests.ConnectionError, requests.Timeout) as error:
        reason = _wrong_tls(error) or "it does not answer"
        raise GridctlError(
            f"{url} cannot be reached ({reason}); start the server or check --server."
        ) from None
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        reason = shorten(_redacted(str(error), key), 160)
        raise GridctlError(
            f"{address} does not say which models there are ({reason}); name one with --model, "
            "or check --server."
        ) from None
    if len(names) != 1:
        some = ", ".join(names[:5]) or "none"
        raise UsageError(f"{url} has {len(names)} models ({some}); choose one with --model.")
    return names[0]


def base_url(url: str) -> str:
    """`http://host:8000`, with or without /v1 or all of /v1/chat/completions → …/v1.

    Raises UsageError for an address that is no HTTP server's, or that holds a password.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        (parts.hostname or "").encode("idna")  # an empty label, or one that is too long
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise UsageError(
            f"server {url} is no address of an HTTP server; write one like "
            "http://localhost:8000/v1."
        )
    if parts.username or parts.password:
        raise UsageError(
            f"the address of {parts.hostname} holds a password; put the key into the environment."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _post(session: requests.Session, server: ServerDescriber, body: bytes) -> Reply:
    try:
        response = session.post(
            f"{base_url(server.url)}/chat/completions",
            data=body,
            headers={"Content-Type": "application/json", **_headers(server.key)},
            timeout=(CONNECT_SECONDS, server.settings.timeout_seconds),
            allow_redirects=False,  # requests would turn it into a GET
            auth=_no_netrc,
        )
    except requests.Timeout as error:
        unreachable = isinstance(error, requests.ConnectTimeout)
        raise _PassingError("it does not answer in time", unreachable=unreachable) from None
    except requests.RequestException as error:
        if tls := _wrong_tls(error):
            raise _FinalError(f"{server.url} cannot be reached ({tls}); check --server.") from None
        cause = getattr(error.args[0] if error.args else None, "reason", None)
        unreachable = isinstance(cause, NewConnectionError | ConnectTimeoutError)
        reason = "it cannot be reached" if unreachable else "it closes the connection"
        raise _PassingError(reason, unreachable=unreachable) from None
    if response.status_code != 200:
        raise _refusal(server, response)
    return _reply(server, response)


def _refusal(server: ServerDescriber, response: requests.Response) -> Exception:
    """What to raise for a status other than 200."""
    code = response.status_code
    said = _error_text(server.key, response)
    if code == 429 and "insufficient_quota" in response.text:
        return _FinalError(f"{server.url}: the account has no quota left ({said}); add some.")
    if code in _BUSY or code >= 500:
        rest = retry_after_seconds(response.headers.get("Retry-After"))
        return _PassingError(f"it answers {code} ({said})", after_seconds=rest)
    if code in (401, 403):
        return _wrong_key(server.url, server.key, response)
    if code in _HOPELESS:
        return _FinalError(
            f"{server.url} has no such model or address ({code}: {said}); check --server and "
            f"--model {server.model}."
        )
    if 300 <= code < 400:
        to = response.headers.get("Location", "elsewhere")
        return _FinalError(f"{server.url} has moved to {to}; say that with --server.")
    return GridctlError(
        f"{server.url} refuses the request ({code}: {said}); check caption.request, "
        "caption.image_side and --view."
    )


def _reply(server: ServerDescriber, response: requests.Response) -> Reply:
    """The answer in a response of status 200."""
    try:
        choice = response.json()["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        if isinstance(content, list):  # in parts
            content = "".join(part.get("text") or "" for part in content)
        if not isinstance(content, str | None):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _PassingError(
            f"its answer is no completion ({_error_text(server.key, response)})"
        ) from None
    if refusal or choice.get("finish_reason") == "content_filter":
        why = shorten(str(refusal or "its content filter"), 80)
        raise GridctlError(f"the model refuses to describe it ({why}); try another prompt.")
    return Reply(text=content or "", finished=choice.get("finish_reason") != "length")


def _given_up(server: ServerDescriber, error: _PassingError) -> GridctlError:
    tries = f"after {server.settings.retries + 1} tries"
    if error.unreachable:
        return _FinalError(
            f"{server.url} cannot be reached {tries}; start the server or check --server, then "
            "run it again: what is captioned is kept."
        )
    return GridctlError(f"{server.url} has no caption {tries}: {error}; run it again.")


def _wrong_key(url: str, key: str | None, response: requests.Response) -> GridctlError:
    said = _error_text(key, response)
    return _FinalError(
        f"{url} refuses {'the key' if key else 'to answer without a key'} "
        f"({response.status_code}: {said}); put the right one into the environment "
        "(caption.key_variable)."
    )


def _wrong_tls(error: requests.RequestException) -> str | None:
    """What is wrong with the address for good, where the two do not agree on encryption."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return "its certificate is not trusted here"
        if "WRONG_VERSION_NUMBER" in text:
            return "it speaks http, not https"
    return None


def _error_text(key: str | None, response: requests.Response) -> str:
    try:
        data = response.json()
        error = data.get("error", data)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        text = response.text
    return shorten(_redacted(text, key), 160) or "no reason given"


def _redacted(text: str, key: str | None) -> str:
    return text.replace(key, "***") if key else text


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an `auth`, requests would look for a password in ~/.netrc and send that."""
    return request
