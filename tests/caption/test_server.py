"""`server` against a test server on loopback that makes the mistakes of real servers."""

import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gridctl as gridctl_package
from gridctl.caption import caption, open_describer
from gridctl.caption.server import ServerDescriber, base_url, only_model
from gridctl.errors import GridctlError, UsageError
from gridctl.geometry import Grid
from gridctl.media.facts import Facts
from gridctl.media.grid_image import save_grid
from gridctl.profile import CaptionSection, Profile, load_profile

GRID = Grid(rows=2, cols=2, cell=(32, 32))
OPENING = "2x2 grid of 4 video frames in reading order."
KEY = "sk-very-secret"

# What a handler does about a request: (handler, number of the grid, try number from 0).
Behaviour = Callable[["Handler", int, int], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"
    present = False  # whether a client waits for this answer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = int(re.search(r"clip (\d+)", str(body["messages"])).group(1))  # type: ignore[union-attr]
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
            attempt = self.server.tries[number]
            self.server.tries[number] += 1
            self.server.requests.append((self.path, dict(self.headers), body))
        self.present = True
        try:
            self.server.behave(self, number, attempt)
        finally:
            self.leave()

    def leave(self) -> None:
        """The client counts on no answer any more."""
        with self.server.lock:
            self.server.now -= self.present
            self.present = False

    def do_GET(self) -> None:
        data: dict[str, Any] = {"data": [{"id": name} for name in self.server.models]}
        if self.server.get_status != 200:
            data = {"error": {"message": f"not you, {self.headers['Authorization']}"}}
        self.reply(self.server.get_status, data)

    def answer(self, text: str | None, finish: str = "stop", **message: object) -> None:
        choice = {"message": {"content": text, **message}, "finish_reason": finish}
        self.reply(200, {"choices": [choice]})

    def reply(self, status: int, data: object, **headers: str) -> None:
        self.leave()  # the client may send the next request as soon as it has this
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.leave()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.tries: Counter[int] = Counter()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.models = ["glm"]
        self.get_status = 200
        self.behave: Behaviour = lambda handler, number, _: handler.answer(f"Clip {number} runs.")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that hung up is none


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def describer(server: Server, *, key: str | None = None, **settings: Any) -> ServerDescriber:
    settings = {"timeout_seconds": 5.0, **settings, "server": server.url}
    return ServerDescriber(
        settings=CaptionSection(**settings), model="glm", key=key, first_backoff_seconds=0.01
    )


def make_grids(folder: Path, count: int, **settings: object) -> Profile:
    """Write `count` grids of noise; the profile's mapping names each one's number."""
    rng = np.random.default_rng(0)
    facts = Facts(grid=GRID, source="c", times_seconds=(0.0, 0.1, 0.2, 0.3), fps=10.0, num_frames=4)
    for number in range(count):
        picture = rng.integers(0, 256, (64, 64, 3), np.uint8)
        save_grid(picture, folder / f"vid{number}.png", facts)
    mapping = folder.with_name(f"{folder.name}.toml")
    mapping.write_text("".join(f'vid{k} = "clip {k}"\n' for k in range(count)))
    values = {"mapping": mapping, **settings}
    return load_profile(None, {f"caption.{key}": value for key, value in values.items()}).profile


def captions(folder: Path) -> dict[int, str]:
    return {int(path.stem[3:]): path.read_text("utf-8") for path in folder.glob("vid*.txt")}


def expected(number: int) -> str:
    return f"{OPENING} Clip {number} runs.\n"


def test_a_request_has_the_format_of_the_openai_api(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 1)
    model = describer(server, key=KEY, max_tokens=77, request={"temperature": 0.2})
    result = caption([tmp_path], profile, describer=model)
    assert captions(tmp_path) == {0: expected(0)}
    assert len(result.written) == 1
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "glm",
        "max_tokens": 77,
        "temperature": 0.2,
    }
    ((picture, text),) = [message["content"] for message in body["messages"]]
    assert text["type"] == "text"
    assert "The subject is: clip 0." in text["text"]
    kind, _, data = picture["image_url"]["url"].partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (64, 64)
    line = json.loads((tmp_path / "metadata.jsonl").read_text())
    assert (line["caption_backend"], line["caption_model"]) == ("server", "glm")
    assert line["caption_prompt"] == text["text"]


def test_frames_are_sent_one_by_one_and_max_completion_tokens_replaces_max_tokens(
    tmp_path: Path, server: Server
) -> None:
    profile = make_grids(tmp_path, 1, view="frames")
    model = describer(server, request={"max_completion_tokens": 9})
    caption([tmp_path], profile, describer=model)
    ((_, headers, body),) = server.requests
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url"] * 4 + ["text"]
    assert "max_tokens" not in body
    assert "Authorization" not in headers


def misbehave(handler: Handler, number: int, attempt: int) -> None:
    """Something else goes wrong with the first two tries for each grid; then it answers."""
    if attempt >= 2:
        handler.answer(f"Clip {number} runs.")
        return
    wrong = (number + 3 * attempt) % 10
    if wrong == 0:
        handler.leave()
        time.sleep(2.5)  # longer than the client waits
        handler.answer("too late")
    elif wrong == 1:
        handler.reply(429, {"error": {"message": "slow down"}}, Retry_After="0.02")
    elif wrong == 2:
        handler.reply(500, b"<html>Internal Server Error</html>")
    elif wrong == 3:
        handler.reply(200, b'{"choices": [{"mess')
    elif wrong == 4:
        handler.hang_up()
    elif wrong == 5:  # hangs up in the middle of an answer
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices": [')
        handler.hang_up()
    elif wrong == 6:
        handler.reply(200, {"error": {"message": "overloaded"}})
    elif wrong == 7:
        handler.reply(503, b"", Retry_After="0")
    elif wrong == 8:
        handler.reply(200, {"choices": []})
    else:
        handler.wfile.write(b"this is no HTTP\r\n\r\n")
        handler.hang_up()


def test_32_concurrent_requests_with_faults_lose_no_caption(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 160)
    server.behave = misbehave
    model = describer(server, concurrency=32, timeout_seconds=1.5)
    result = caption([tmp_path], profile, describer=model)
    assert result.failed == ()
    assert captions(tmp_path) == {number: expected(number) for number in range(160)}
    assert len(result.written) == len(set(result.written)) == 160
    assert min(server.tries.values()) == 3
    assert server.most <= 32
    lines = (tmp_path / "metadata.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["text"] for line in lines) == sorted(
        expected(number).strip() for number in range(160)
    )
    assert not list(tmp_path.glob(".*"))


def test_32_requests_run_at_the_same_time(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 64)
    together = threading.Barrier(32)  # nobody is answered before 32 have asked

    def wait(handler: Handler, number: int, _: int) -> None:
        together.wait(timeout=20)
        handler.answer(f"Clip {number} runs.")

    server.behave = wait
    result = caption([tmp_path], profile, describer=describer(server, concurrency=32))
    assert len(result.written) == 64
    assert server.most == 32


def test_a_lasting_failure_is_one_grid_s_and_the_next_run_asks_again(
    tmp_path: Path, server: Server
) -> None:
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


def test_a_missing_server_is_one_error(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 5)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings = CaptionSection(server=f"http://127.0.0.1:{port}", retries=2)
    gone = ServerDescriber(settings=settings, model="m", first_backoff_seconds=0.01)
    with pytest.raises(GridctlError, match="cannot be reached after 3 tries"):
        caption([tmp_path], profile, describer=gone)
    assert not captions(tmp_path)


def test_retry_after_pauses_all_requests(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 12)
    moments: list[float] = []

    def behave(handler: Handler, number: int, _: int) -> None:
        moments.append(time.monotonic())
        if len(moments) == 1:
            handler.reply(429, {}, Retry_After="1")
        else:
            handler.answer(f"Clip {number} runs.")

    server.behave = behave
    result = caption([tmp_path], profile, describer=describer(server, concurrency=1))
    assert len(result.written) == 12
    assert moments[1] - moments[0] >= 1


def test_a_pause_of_hours_ends_the_run(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 1)
    server.behave = lambda handler, *_: handler.reply(429, {}, Retry_After="7200")
    with pytest.raises(GridctlError, match=r"no request for 2\.0 hours"):
        caption([tmp_path], profile, describer=describer(server))


def test_the_rate_is_kept(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 6)
    moments: list[float] = []

    def behave(handler: Handler, number: int, _: int) -> None:
        moments.append(time.monotonic())
        handler.answer(f"Clip {number} runs.")

    server.behave = behave
    model = describer(server, rate=1200.0)
    start = time.monotonic()
    assert len(caption([tmp_path], profile, describer=model).written) == 6
    assert max(moments) - start >= 5 * 0.05


def test_a_killed_run_leaves_whole_captions_and_asks_for_none_twice(
    tmp_path: Path, server: Server
) -> None:
    profile = make_grids(tmp_path / "vidgrid", 24)

    def behave(handler: Handler, number: int, _: int) -> None:
        if len(captions(tmp_path / "vidgrid")) >= 8:
            time.sleep(60)  # the rest is answered to nobody
        handler.answer(f"Clip {number} runs.")

    server.behave = behave
    command = [sys.executable, "-m", "gridctl", "caption", "vidgrid"]
    command += ["--mapping", str(profile.caption.mapping)]
    command += ["--server", server.url, "--model", "glm"]
    root = str(Path(gridctl_package.__file__).parent.parent)
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root})
    while len(captions(tmp_path / "vidgrid")) < 8:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = captions(tmp_path / "vidgrid")
    assert kept == {number: expected(number) for number in kept}
    server.tries.clear()
    server.behave = lambda handler, number, _: handler.answer(f"Clip {number} runs.")
    caption([tmp_path / "vidgrid"], profile, describer=describer(server))
    assert captions(tmp_path / "vidgrid") == {number: expected(number) for number in range(24)}
    assert set(server.tries) == set(range(24)) - set(kept)
    entries = (tmp_path / "vidgrid" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(entry)["caption_model"] for entry in entries] == ["glm"] * 24


def test_a_stopped_run_sends_no_more_requests(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 40)

    def stop(done: int, total: int, text: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    server.behave = lambda handler, number, _: (
        time.sleep(0.1),  # type: ignore[func-returns-value]
        handler.answer(f"Clip {number} runs."),
    )[1]
    with pytest.raises(KeyboardInterrupt):
        caption([tmp_path], profile, describer=describer(server), progress=stop)
    asked = len(server.requests)
    assert asked < 40
    time.sleep(0.5)
    assert len(server.requests) <= asked + 8  # those that were on their way


def test_a_picture_is_encoded_once_however_often_it_is_sent(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 4)

    def behave(handler: Handler, number: int, attempt: int) -> None:
        if attempt == 0:
            (tmp_path / f"vid{number}.png").unlink()  # reading it again would fail
            handler.reply(503, b"")
        else:
            handler.answer(f"Clip {number} runs.")

    server.behave = behave
    assert caption([tmp_path], profile, describer=describer(server)).failed == ()
    assert captions(tmp_path) == {number: expected(number) for number in range(4)}


def test_a_broken_image_costs_no_request(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 3)
    whole = (tmp_path / "vid1.png").read_bytes()
    (tmp_path / "vid1.png").write_bytes(whole[: len(whole) // 2])
    result = caption([tmp_path], profile, describer=describer(server))
    assert [failure.path.name for failure in result.failed] == ["vid1.png"]
    assert set(server.tries) == {0, 2}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://api.host/v1/", "https://api.host/v1"),
        ("https://host/openai/v2/chat/completions", "https://host/openai/v2"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ],
)
def test_an_address_may_be_written_in_several_ways(said: str, meant: str) -> None:
    assert base_url(said) == meant


@pytest.mark.parametrize(
    "wrong",
    [
        *("localhost:8000", "ftp://h/v1", "http://", "http://h:99999", "http://h/v1?key=x", ""),
        "http://a..b/v1",
    ],
)
def test_a_wrong_address_is_an_error(wrong: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        ServerDescriber(settings=CaptionSection(server=wrong or None), model="m")


def test_the_key_is_never_shown() -> None:
    assert KEY not in repr(
        ServerDescriber(settings=CaptionSection(server="http://h"), model="m", key=KEY)
    )
    with pytest.raises(UsageError) as caught:
        base_url(f"http://me:{KEY}@h/v1")
    assert KEY not in str(caught.value)


def test_the_only_model_of_a_server_needs_no_name(server: Server) -> None:
    assert only_model(server.url) == "glm"
    server.models = ["a", "b"]
    with pytest.raises(UsageError, match=r"2 models \(a, b\); choose one"):
        only_model(server.url)
    server.models = []
    with pytest.raises(UsageError, match="0 models"):
        only_model(server.url)
    with pytest.raises(GridctlError, match="cannot be reached"):
        only_model("http://127.0.0.1:1")
    server.get_status = 404
    with pytest.raises(GridctlError, match="does not list its models"):
        only_model(server.url)
    server.get_status = 401
    with pytest.raises(GridctlError, match=r"refuses the key .* into the environment") as caught:
        only_model(server.url, key=KEY)
    assert KEY not in str(caught.value)
    with pytest.raises(GridctlError, match="without a key"):
        only_model(server.url)


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
def test_an_unknown_host_and_a_missing_certificate_file_end_the_run_at_once(
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


def test_failures_after_a_first_caption_do_not_end_the_run(tmp_path: Path, server: Server) -> None:
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


def test_half_an_emoji_in_an_answer_does_not_end_the_run(tmp_path: Path, server: Server) -> None:
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


def test_https_to_an_http_server_ends_the_run_at_once(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 3)
    address = server.url.replace("http:", "https:")
    settings = CaptionSection(server=address)
    model = ServerDescriber(settings=settings, model="m", first_backoff_seconds=60)
    with pytest.raises(GridctlError, match="speaks http, not https"):
        caption([tmp_path], profile, describer=model)
    with pytest.raises(GridctlError, match="speaks http, not https"):
        only_model(address)


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-…", "sk-é"])
def test_an_impossible_key_is_an_error_that_does_not_show_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    values = {"caption.backend": "server", "caption.server": "http://h/v1", "caption.model": "m"}
    with pytest.raises(UsageError, match=r"\$OPENAI_API_KEY") as caught:
        open_describer(load_profile(None, values).profile)
    assert key not in str(caught.value)


def test_the_command_line_takes_the_key_from_the_environment_alone(
    tmp_path: Path,
    server: Server,
    gridctl: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grids = make_grids(tmp_path, 4)
    monkeypatch.setenv("MY_KEY", KEY)
    profile = tmp_path / "mine.toml"
    profile.write_text(
        f'[caption]\nkey_variable = "MY_KEY"\nserver = "{server.url}"\nretries = 0\n'
    )

    def behave(handler: Handler, number: int, _: int) -> None:
        handler.answer("" if number == 2 else f"Clip {number} runs.")

    server.behave = behave
    flags = ["--profile", profile, "--backend", "server", "--mapping", grids.caption.mapping]
    assert gridctl("caption", tmp_path, *flags) == 3
    output = capsys.readouterr()
    assert "vid2.png: the model's answer is empty" in output.err
    assert "1 of 4 could not be captioned" in output.err
    assert "3 captions in" in output.err
    assert "per second" in output.err
    assert KEY not in output.err + output.out
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {KEY}"}
    assert set(captions(tmp_path)) == {0, 1, 3}
