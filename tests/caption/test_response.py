"""What `server` does when a request fails: repeat it, skip the grid, or end the run."""

import json
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gridctl.caption import caption
from gridctl.caption.server import ServerDescriber, only_model
from gridctl.errors import GridctlError
from gridctl.profile import CaptionSection
from tests.caption.fake_server import (
    KEY,
    Handler,
    Server,
    captions,
    describer,
    expected,
    make_grids,
)


def test_lasting_failures_are_asked_again_next_time(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 8)

    def behave(handler: Handler, number: int, _: int) -> None:
        {
            0: lambda: handler.reply(500, {"error": {"message": f"no memory for {KEY}\nhere"}}),
            1: lambda: handler.answer(""),
            2: lambda: handler.answer("I'm sorry, I can't help with that."),
            3: lambda: handler.answer(None, refusal="no people"),
            4: lambda: handler.answer("A", finish="content_filter"),
            5: lambda: handler.reply(400, {"error": {"message": "too many pixels"}}),
            6: lambda: handler.answer([{"type": "text", "text": "Clip 6 runs."}]),  # type: ignore[arg-type]
            7: lambda: handler.answer("Clip 7 runs. It", finish="length"),
        }[number]()

    server.behave = behave
    result = caption([tmp_path], profile, describer=describer(server, retries=1, key=KEY))
    assert captions(tmp_path) == {6: expected(6), 7: expected(7)}
    reasons = [failure.reason for failure in result.failed]
    words = ["after 2 tries", "empty", "refuses", "no people", "content filter", "too many pixels"]
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))
    assert all(len(reason.splitlines()) == 1 and KEY not in reason for reason in reasons)
    assert server.tries == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1}
    server.behave = lambda handler, number, _: handler.answer(f"Clip {number} runs.")
    server.tries.clear()
    again = caption([tmp_path], profile, describer=describer(server))
    assert (len(again.written), len(again.skipped)) == (6, 2)
    assert set(server.tries) == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (401, "bad key sk-very-secret", "refuses the key"),
        (403, "not you", "refuses the key"),
        (404, "no model glm", "no such model"),
        (429, "insufficient_quota", "wants payment"),
        (402, "Insufficient credits for sk-very-secret", "wants payment"),
        (400, "Your credit balance is too low", "wants payment"),
        (307, "", "has moved to http://other/v1"),
    ],
)
def test_a_failure_for_all_grids_ends_the_run_at_once(
    tmp_path: Path, server: Server, status: int, error: str, word: str
) -> None:
    profile = make_grids(tmp_path, 12)

    def behave(handler: Handler, number: int, _: int) -> None:
        if number == 0:
            handler.answer("Clip 0 runs.")
        else:
            location = "http://other/v1"
            handler.reply(status, {"error": {"message": error}}, Location=location)

    server.behave = behave
    model = describer(server, key=KEY, concurrency=1)
    with pytest.raises(GridctlError, match=word) as caught:
        caption([tmp_path], profile, describer=model)
    assert KEY not in str(caught.value)
    assert len(server.requests) <= 3
    assert set(captions(tmp_path)) <= {0}  # whichever thread came first
    if captions(tmp_path):
        assert expected(0).strip() in (tmp_path / "metadata.jsonl").read_text()


def test_a_server_that_ends_midway_is_one_error(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 5)

    def behave(handler: Handler, number: int, _: int) -> None:
        handler.close_connection = True
        server.shutdown()
        server.server_close()
        handler.answer(f"Clip {number} runs.")

    server.behave = behave
    with pytest.raises(GridctlError, match="cannot be reached after 3 tries"):
        caption([tmp_path], profile, describer=describer(server, retries=2, concurrency=1))
    (number, text) = captions(tmp_path).popitem()  # either grid may be asked about first
    assert text == expected(number)
    assert len(captions(tmp_path)) == 1


def test_https_to_an_http_server_ends_the_run_at_once(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 3)
    address = server.url.replace("http:", "https:")
    settings = CaptionSection(server=address)
    model = ServerDescriber(settings=settings, model="m", first_backoff_seconds=60)
    with pytest.raises(GridctlError, match="speaks http, not https"):
        caption([tmp_path], profile, describer=model)
    with pytest.raises(GridctlError, match="speaks http, not https"):
        only_model(address)


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the proxy that a test sets."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return int(closed.getsockname()[1])


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_without_a_listener_ends_the_run(
    host: str, closed_port: int, tmp_path: Path
) -> None:
    profile = make_grids(tmp_path, 2)
    settings = CaptionSection(server=f"http://{host}:{closed_port}/v1")
    slow = ServerDescriber(settings=settings, model="m", first_backoff_seconds=60)
    with pytest.raises(GridctlError, match=r"nothing listens on this port\); start the server"):
        caption([tmp_path], profile, describer=slow)


@pytest.mark.usefixtures("no_proxy")
def test_a_server_that_restarts_is_tried_again(tmp_path: Path) -> None:
    profile = make_grids(tmp_path, 2)
    first = Server()
    threading.Thread(target=first.serve_forever, kwargs={"poll_interval": 0.01}).start()
    second: list[Server] = []

    def restart() -> None:
        time.sleep(0.1)  # in which the second request is refused
        second.append(Server(first.server_port))
        threading.Thread(target=second[0].serve_forever, daemon=True).start()

    def behave(handler: Handler, number: int, _: int) -> None:
        handler.close_connection = True
        first.shutdown()
        first.server_close()
        handler.answer(f"Clip {number} runs.")
        threading.Thread(target=restart).start()

    first.behave = behave
    result = caption([tmp_path], profile, describer=describer(first, concurrency=1, retries=200))
    assert len(result.written) == 2
    assert list(second[0].tries.values()) == [1]
    second[0].shutdown()
    second[0].server_close()


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    ("variable", "proxy", "reason"),
    [
        ("ALL_PROXY", "socks5://me:pass@127.0.0.1:{port}", "socks5://127.0.0.1:.*PySocks"),
        ("http_proxy", "http://me:pass@127.0.0.1:{port}", "proxy http://127.0.0.1:.*refused"),
        ("HTTP_PROXY", "http://127.0.0.1:{port}", r"or add 127\.0\.0\.1 to \$NO_PROXY"),
        ("HTTP_PROXY", "ftp://127.0.0.1:{port}", "proxy ftp://127.0.0.1:"),
        ("HTTP_PROXY", "http://", "proxy"),
    ],
)
def test_a_proxy_that_cannot_work_ends_the_run_at_once(
    variable: str,
    proxy: str,
    reason: str,
    closed_port: int,
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if proxy.startswith("socks"):
        monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv(variable, proxy.format(port=closed_port))
    profile = make_grids(tmp_path, 2)
    settings = CaptionSection(server=server.url)
    slow = ServerDescriber(settings=settings, model="m", first_backoff_seconds=60)
    with pytest.raises(GridctlError, match=reason) as caught:
        caption([tmp_path], profile, describer=slow)
    assert "pass@" not in str(caught.value)
    with pytest.raises(GridctlError, match=reason):
        only_model(server.url)


@pytest.mark.usefixtures("no_proxy")
def test_a_proxy_that_wants_a_password_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listening.getsockname()[1]}")
        settings = CaptionSection(server="https://example.invalid/v1")
        slow = ServerDescriber(settings=settings, model="m", first_backoff_seconds=60)
        with pytest.raises(GridctlError, match=r"it answers 407 Proxy Auth.*HTTPS_PROXY"):
            caption([tmp_path], make_grids(tmp_path, 2), describer=slow)


@pytest.mark.usefixtures("no_proxy")
def test_unknown_hosts_and_certificates_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = make_grids(tmp_path, 2)
    real = socket.getaddrinfo

    def unknown(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "no.such.host":  # a machine without a network cannot tell
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    settings = CaptionSection(server="https://no.such.host/v1")
    slow = ServerDescriber(settings=settings, model="m", first_backoff_seconds=60)
    with pytest.raises(GridctlError, match=r"no host has the name no\.such\.host"):
        caption([tmp_path], profile, describer=slow)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(GridctlError, match=r"none\.pem"):
        caption([tmp_path], profile, describer=slow)


def events(*deltas: dict[str, Any]) -> bytes:
    """A stream of events, as servers send it."""
    choices = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    data = [*choices, {"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": []}]
    lines = [f"data: {json.dumps(event)}\n\n" for event in data]
    return (": comment\n\n" + "".join(lines) + "data: [DONE]\n\n").encode()


def test_a_server_that_only_streams_is_understood(tmp_path: Path, server: Server) -> None:
    server.behave = lambda handler, number, _: handler.reply(
        200,
        events(
            {"role": "assistant", "content": ""},
            {"reasoning_content": "Hm."},
            {"content": f"Clip {number} "},
            {"content": "runs."},
        ),
    )
    result = caption([tmp_path], make_grids(tmp_path, 2), describer=describer(server))
    assert result.failed == ()
    assert captions(tmp_path) == {0: expected(0), 1: expected(1)}
    assert server.tries == {0: 1, 1: 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "bad temperature"}}, r"answers with an error \(bad temperature\)"),
        ({"error": {"message": "no funds", "code": 402}}, "wants payment"),
        ({"error": "insufficient balance"}, "wants payment"),
        ({"object": "error", "message": "no such model", "code": 404}, "no such model or address"),
        ({"detail": "Not Found"}, "answers with an error"),
        ({"choices": [{"error": {"code": 401, "message": "bad key"}}]}, "without a key"),
        ({"models": []}, "answers with an error"),
        (b"<html><title>Sign in</title></html>", "with a page"),
        (b'data: {"error": {"message": "bad temperature"}}\n\n', "bad temperature"),
        ({"choices": [{"message": {"content": 3}}]}, "no completion"),
    ],
)
def test_an_error_in_a_good_status_is_not_tried_again(
    body: object, reason: str, tmp_path: Path, server: Server
) -> None:
    profile = make_grids(tmp_path, 1)
    server.behave = lambda handler, *_: handler.reply(200, body)
    slow = ServerDescriber(
        settings=CaptionSection(server=server.url), model="m", first_backoff_seconds=60
    )
    try:
        (failure,) = caption([tmp_path], profile, describer=slow).failed
        told = failure.reason
    except GridctlError as error:
        told = str(error)
    assert re.search(reason, told)
    assert server.tries == {0: 1}


def test_requests_that_all_fail_alike_end_the_run(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 60)
    server.behave = lambda handler, number, _: handler.reply(
        400, {"error": {"message": f"grid {number}: temperature is too high"}}
    )
    with pytest.raises(GridctlError, match="first 10 requests failed like this"):
        caption([tmp_path], profile, describer=describer(server, concurrency=2))
    assert len(server.requests) < 20


def test_failures_after_a_caption_do_not_end_it(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 20)

    def behave(handler: Handler, number: int, _: int) -> None:
        if number == 0:
            handler.answer("Clip 0 runs.")
        else:
            handler.reply(400, {"error": {"message": "temperature is too high"}})

    server.behave = behave
    result = caption([tmp_path], profile, describer=describer(server, concurrency=1))
    assert len(result.failed) == 19


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "still thinking"), ("stop", "thinks .* answers nothing")]
)
def test_thoughts_without_an_answer_are_named(
    name: str, finish: str, reason: str, tmp_path: Path, server: Server
) -> None:
    profile = make_grids(tmp_path, 1)
    server.behave = lambda handler, *_: handler.answer(None, finish, **{name: "Let me see."})
    (failure,) = caption([tmp_path], profile, describer=describer(server)).failed
    assert re.search(reason, failure.reason)
    assert "max_tokens" in failure.reason


def test_half_an_emoji_does_not_end_the_run(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 3)
    parts = [{"type": "text", "text": "Clip 1 \ud83d"}, {"type": "text", "text": "\ude00 runs."}]
    answers: list[Any] = ["Clip 0\ud83d runs.", parts, "Clip 2 runs."]
    server.behave = lambda handler, number, _: handler.answer(answers[number])
    assert caption([tmp_path], profile, describer=describer(server)).failed == ()
    assert captions(tmp_path) == {
        0: expected(0),
        1: expected(1).replace("runs", "\U0001f600 runs"),
        2: expected(2),
    }
