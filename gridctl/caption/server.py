"""The backend `server`: grids described by any OpenAI-compatible server, many at once.

This is our own small client on requests. The openai package was weighed: it retries each request
by itself, so it knows neither a pause that the server asks of all requests nor a rate limit, and
the many ways in which servers fail need an error line each in any case.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from gridctl.caption.failures import (
    FinalError,
    PassingError,
    RequestError,
    connection_failure,
    without_secrets,
)
from gridctl.caption.question import Answer, Answers, Question, Reply
from gridctl.caption.response import Response, error_text, read_reply, wrong_key
from gridctl.errors import GridctlError, UsageError
from gridctl.profile import CaptionSection
from gridctl.text import parse_json

CONNECT_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 60.0
MAX_RESPONSE_BYTES = 8 * 2**20  # a stream of 30,000 tokens; a grid needs a few hundred
LONGEST_PAUSE_SECONDS = 3600.0  # a server that asks for a longer pause ends the run
SAME_FAILURES = 10  # so many requests that fail alike, and none that works, end the run


@dataclass(frozen=True, kw_only=True)
class ServerDescriber:
    """Asks `model` on the OpenAI-compatible server of `settings`, many requests at once.

    A failure that may pass (no connection, a timeout, 429, 5xx, a garbled answer) is tried
    again `settings.retries` times, after a growing pause or after the one that the server
    asks for. Nothing else is sent during the latter. A port of this machine that refuses
    connections is tried again only if it has answered before: then the server may restart.

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
        """Each question with its answer, in the order in which the answers come.

        Raises GridctlError for a failure that all other questions would meet, too: the server
        cannot be reached, refuses the key, wants payment or has no such model.
        """
        run = _Run(self, questions)
        # Twice as many threads as requests: some prepare pictures while the others wait.
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
            run.stop.set()  # the threads end by themselves; nobody waits for one that hangs

    def body(self, question: Question) -> bytes:
        """The request about a grid with its pictures; made once, however often it is sent."""
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
        if "max_completion_tokens" not in self.settings.request:  # its newer name
            body["max_tokens"] = self.settings.max_tokens
        return json.dumps({**body, **self.settings.request}).encode()


class _Run:
    """State that the threads of one `describe` share."""

    def __init__(self, server: ServerDescriber, questions: Iterator[Question]) -> None:
        self.server = server
        self.questions = questions
        self.answers: queue.SimpleQueue[Answer | BaseException | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.taking = threading.Lock()
        self.slots = threading.Semaphore(server.settings.concurrency)
        self.preparing = threading.Semaphore(os.cpu_count() or 1)
        self.gate = RequestGate(server.settings.rate)
        self.failures: list[str] | None = []  # until a request works

    def work(self) -> None:
        """One thread: take a question, send it, hand in the answer, and go on."""
        try:
            with requests.Session() as session:
                while (question := self.take()) is not None:
                    reply = self.reply(session, question)
                    if reply is not None:
                        self.answers.put((question, reply))
            self.answers.put(None)
        except BaseException as error:  # the main thread raises it
            self.answers.put(error)

    def take(self) -> Question | None:
        with self.taking:
            return None if self.stop.is_set() else next(self.questions, None)

    def reply(self, session: requests.Session, question: Question) -> Reply | GridctlError | None:
        """The answer to one question, or its failure; None if the run was stopped."""
        try:
            with self.preparing:
                body = self.server.body(question)
            with self.slots:
                return self.ask(session, body)
        except FinalError:
            raise
        except RequestError as error:
            self.count_failure(error)
            return error
        except GridctlError as error:
            return error

    def ask(self, session: requests.Session, body: bytes) -> Reply | None:
        """The answer to one request; None if the run was stopped meanwhile."""
        server, attempt = self.server, 0
        while True:
            self.gate.pass_through(self.stop)
            if self.stop.is_set():
                return None
            try:
                response = _exchange(
                    session,
                    server.url,
                    "chat/completions",
                    key=server.key,
                    seconds=server.settings.timeout_seconds,
                    body=body,
                )
                reply = read_reply(response, url=server.url, model=server.model, key=server.key)
                self.failures = None  # before the next request goes out
                return reply
            except PassingError as error:
                if error.no_listener and self.failures is not None:
                    raise _not_started(server) from None
                pause = error.after_seconds
                if pause is not None and pause > LONGEST_PAUSE_SECONDS:
                    raise FinalError(
                        f"{server.url} wants no request for {pause / 3600:.1f} hours; run it again "
                        "after that."
                    ) from None
                if attempt == server.settings.retries:
                    raise _given_up(server, error) from None
                if pause is not None:
                    self.gate.close(pause)
                else:
                    self.stop.wait(backoff_seconds(attempt, server.first_backoff_seconds))
                attempt += 1

    def count_failure(self, error: RequestError) -> None:
        """Raise FinalError if all requests have failed, and for the same reason."""
        with self.taking:
            if self.failures is None:
                return
            self.failures.append(re.sub(r"\d+", "", str(error)))
            if len(self.failures) >= SAME_FAILURES and len(set(self.failures)) == 1:
                raise FinalError(f"{error} The first {SAME_FAILURES} requests failed like this.")


class RequestGate:
    """Lets requests pass within the rate limit, and not during a server's pause.

    Any number of threads may wait at it.
    """

    def __init__(self, rate_per_minute: float | None = None) -> None:
        self._spacing = 60 / rate_per_minute if rate_per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0
        self._closed_until = 0.0

    def close(self, seconds: float) -> None:
        """Let no request pass for `seconds`, the pause that the server asked for."""
        with self._lock:
            self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def pass_through(self, stop: threading.Event) -> None:
        """Wait for this request's turn, or until `stop` is set."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._spacing
        while not stop.is_set():
            seconds = max(turn, self._closed_until) - time.monotonic()
            if seconds <= 0:
                return
            stop.wait(seconds)


def backoff_seconds(attempt: int, first_seconds: float) -> float:
    """Seconds to wait after try `attempt` (from 0): doubling each time, with some randomness."""
    longest: float = min(MAX_BACKOFF_SECONDS, first_seconds * 2**attempt)
    return longest * random.uniform(0.5, 1.0)


def only_model(url: str, *, key: str | None = None) -> str:
    """The name of the server's only model.

    Raises UsageError if it has several or none, GridctlError if it does not answer.
    """
    try:
        with requests.Session() as session:
            response = _exchange(session, url, "models", key=key, seconds=CONNECT_SECONDS)
    except PassingError as failure:
        raise GridctlError(
            f"{url} cannot be reached ({failure}); start the server or check --server."
        ) from None
    reason = f"it answers {response.status}: {error_text(response, key)}"
    if response.status in (401, 403):
        raise wrong_key(url, key, reason)
    try:
        names = [str(model["id"]) for model in parse_json(response.text)["data"]]
    except (LookupError, TypeError, ValueError):
        raise GridctlError(
            f"{base_url(url)}/models does not list the server's models ({reason}); name one with "
            "--model, or check --server."
        ) from None
    if len(names) != 1:
        some = ", ".join(names[:5]) or "none"
        raise UsageError(f"{url} has {len(names)} models ({some}); choose one with --model.")
    return names[0]


def base_url(url: str) -> str:
    """`http://host:8000`, with or without /v1 or all of /v1/chat/completions → …/v1.

    Raises UsageError for an address that is not an HTTP server's, or that holds a password.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        (parts.hostname or "").encode("idna")  # an empty label, or one that is too long
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise UsageError(
            f"server {without_secrets(url)} is not the address of an HTTP server; write one like "
            "http://localhost:8000/v1."
        )
    if parts.username or parts.password:
        raise UsageError(
            f"the address of {parts.hostname} holds a password; "
            "put the key into the environment instead."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _exchange(
    session: requests.Session,
    url: str,
    path: str,
    *,
    key: str | None,
    seconds: float,
    body: bytes | None = None,
) -> Response:
    """Send a request (POST if it has a body) and read the whole response, in `seconds` altogether.

    The timeouts of requests are for each packet, so a server that sends a byte now and then would
    hold them off for ever. Raises PassingError for no response in time, RequestError for one that
    is larger than MAX_RESPONSE_BYTES, and what `connection_failure` returns.
    """
    deadline = time.monotonic() + seconds
    outcomes: queue.SimpleQueue[Response | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            with session.request(
                "POST" if body else "GET",
                f"{base_url(url)}/{path}",
                data=body,
                headers={
                    **({"Content-Type": "application/json"} if body else {}),
                    **({"Authorization": f"Bearer {key}"} if key else {}),
                },
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                allow_redirects=body is None,  # requests would turn a POST into a GET
                auth=_no_netrc,
                stream=True,
            ) as response:
                content = bytearray()
                for piece in response.iter_content(2**16):
                    content += piece
                    if len(content) > MAX_RESPONSE_BYTES or time.monotonic() > deadline:
                        break
                outcomes.put(
                    Response(
                        status=response.status_code,
                        headers=response.headers,
                        body=bytes(content),
                    )
                )
        except Exception as error:  # the caller raises it
            outcomes.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        outcome = outcomes.get(timeout=seconds + 1)  # so that requests' own timeouts come first
    except queue.Empty:
        raise PassingError("it does not answer in time") from None
    if isinstance(outcome, requests.RequestException | HTTPError | OSError | ValueError):
        raise connection_failure(outcome, url) from None
    if isinstance(outcome, Exception):
        raise outcome
    if len(outcome.body) > MAX_RESPONSE_BYTES:
        raise RequestError(
            f"{url} answers with more than {MAX_RESPONSE_BYTES // 2**20} MB; check --server."
        )
    if time.monotonic() > deadline:
        raise PassingError("it does not answer in time")
    return outcome


def _not_started(server: ServerDescriber) -> FinalError:
    """The error for a port of this machine that no program listens on, and none did before."""
    return FinalError(
        f"{server.url} cannot be reached (nothing listens on this port); start the server and wait "
        "until it is ready, or check --server."
    )


def _given_up(server: ServerDescriber, error: PassingError) -> GridctlError:
    tries = server.settings.retries + 1
    after = f"after {tries} {'try' if tries == 1 else 'tries'}"
    if error.unreachable:
        return FinalError(
            f"{server.url} cannot be reached {after}; start the server or check --server, then "
            "run it again: existing captions are kept."
        )
    return RequestError(f"{server.url} gives no caption {after}: {error}; run it again.")


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without this as `auth`, requests would send a password that it finds in ~/.netrc."""
    return request
