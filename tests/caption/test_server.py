"""`server` against a test server on loopback that makes the mistakes of real servers."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import gridctl as gridctl_package
from gridctl.caption import caption, open_describer
from gridctl.caption.server import ServerDescriber, base_url, only_model
from gridctl.errors import GridctlError, UsageError
from gridctl.profile import CaptionSection, load_profile
from tests.caption.fake_server import (
    KEY,
    Handler,
    Server,
    captions,
    describer,
    expected,
    make_grids,
)


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


def test_frames_are_sent_one_by_one(tmp_path: Path, server: Server) -> None:
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


def test_32_requests_with_faults_lose_no_caption(tmp_path: Path, server: Server) -> None:
    profile = make_grids(tmp_path, 160)
    server.behave = misbehave
    model = describer(server, concurrency=32, timeout_seconds=1.5, retries=20)
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
        together.wait(timeout=50)
        handler.answer(f"Clip {number} runs.")

    server.behave = wait
    result = caption([tmp_path], profile, describer=describer(server, concurrency=32))
    assert len(result.written) == 64
    assert server.most == 32


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


def test_a_killed_run_asks_for_no_caption_twice(tmp_path: Path, server: Server) -> None:
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


def test_a_picture_is_encoded_once(tmp_path: Path, server: Server) -> None:
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
    with pytest.raises(UsageError, match="is not the address"):
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
    with pytest.raises(GridctlError, match="does not list the server"):
        only_model(server.url)
    server.get_status = 401
    with pytest.raises(GridctlError, match=r"refuses the key .* into the environment") as caught:
        only_model(server.url, key=KEY)
    assert KEY not in str(caught.value)
    with pytest.raises(GridctlError, match="without a key"):
        only_model(server.url)


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-…", "sk-é"])
def test_an_impossible_key_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    values = {"caption.backend": "server", "caption.server": "http://h/v1", "caption.model": "m"}
    with pytest.raises(UsageError, match=r"\$OPENAI_API_KEY") as caught:
        open_describer(load_profile(None, values).profile)
    assert key not in str(caught.value)


def test_the_key_is_taken_from_the_environment(
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
