"""Responses of a server: an answer, a failure of one grid, or one of all."""

import json
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.caption import caption
from gridctl.caption.failures import FinalError, PassingError, RequestError
from gridctl.caption.question import Reply
from gridctl.caption.response import Response, error_text, read_reply, retry_after_seconds
from gridctl.caption.server import ServerDescriber
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
from tests.hostile import no_hang


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


def read(body: object, status: int = 200, key: str | None = None, **headers: str) -> Reply:
    """The reply in a response with this body, bytes or JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    response = Response(status=status, headers=names, body=data)
    return read_reply(response, url="http://h/v1", model="m", key=key)


@pytest.mark.parametrize(
    ("status", "said", "kind", "reason"),
    [
        (400, "bad temperature", RequestError, "refuses the request (400: bad temperature); check"),
        (400, "image input is not supported", RequestError, "check that m sees pictures"),
        (400, "At most 4 images may be sent", RequestError, "check that m sees pictures"),
        (413, "too large", RequestError, "lower caption.image_side"),
        (400, "flagged by our content policy", GridctlError, "refuses to describe it"),
        (403, "flagged by moderation", GridctlError, "refuses to describe it"),
        (401, "no", FinalError, "without a key"),
        (404, "no", FinalError, "check --server and --model m"),
        (405, "no", FinalError, "no such model or address"),
        (410, "no", FinalError, "no such model or address"),
        (402, "no", FinalError, "wants payment"),
        (429, "you exceeded your current quota", FinalError, "wants payment"),
        (503, "billing is down", PassingError, "it answers 503 (billing is down)"),
        (429, "slow down", PassingError, "it answers 429"),
        (408, "", PassingError, "it answers 408"),
        (409, "", PassingError, "it answers 409"),
        (425, "", PassingError, "it answers 425"),
        (500, "", PassingError, "it answers 500"),
        (599, "", PassingError, "it answers 599"),
        (301, "", FinalError, "has moved to elsewhere"),
    ],
)
def test_each_status_has_its_meaning(
    status: int, said: str, kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind) as caught:
        read({"error": {"message": said}} if said else b"", status)
    assert type(caught.value) is kind
    assert reason in str(caught.value)


def test_a_pause_comes_with_the_failure_that_may_pass() -> None:
    with pytest.raises(PassingError) as caught:
        read({}, 429, Retry_After="7")
    assert caught.value.after_seconds == 7
    with pytest.raises(PassingError) as caught:
        read({}, 500)
    assert caught.value.after_seconds is None


def test_an_address_is_told_without_its_secrets() -> None:
    with pytest.raises(FinalError) as caught:
        read(b"", 302, Location="https://me:pw@other/v1?sig=abc#x")
    assert "has moved to https://other/v1; use" in str(caught.value)


def test_a_page_is_told_by_its_words() -> None:
    page = b"<html><head><title>x</title></head><style>p{}</style><p>Bad   <b>gateway</b></p>"
    assert error_text(Response(status=502, headers={}, body=page), None) == "Bad gateway"
    assert error_text(Response(status=502, headers={}, body=b""), None) == "no reason given"
    with no_hang():
        error_text(Response(status=502, headers={}, body=b"<style" * 20_000), None)


@pytest.mark.parametrize(
    ("finish", "finished"), [("stop", True), (None, True), ("length", False), ("max_tokens", False)]
)
def test_an_answer_says_whether_it_is_finished(finish: str | None, finished: bool) -> None:
    choice = {"message": {"content": "A dog."}, "finish_reason": finish}
    assert read({"choices": [choice]}) == Reply(text="A dog.", finished=finished)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", PassingError),
        (b'{"choices": [{"mess', PassingError),
        ({"choices": []}, PassingError),
        ({"error": "the model is loading"}, PassingError),
        ({"error": {"message": "x", "code": "503"}}, PassingError),
        ({"error": {"message": "x", "code": "\u00b2"}}, RequestError),
        ({"error": {"message": "x", "code": "9" * 5000}}, RequestError),
        ({"choices": [None]}, RequestError),
        ({"choices": {"a": 1}}, RequestError),
        ({"choices": 3}, RequestError),
        ({"choices": [{"message": "x"}]}, RequestError),
        ({"choices": [{"message": {"content": 5}}]}, RequestError),
        ({"choices": [{"message": {"content": [5, None]}}]}, RequestError),
        ({"choices": [{"message": {"content": "A"}, "finish_reason": "error"}]}, PassingError),
        (b'data: {"choices": [{"delta": "x"}]}\n\ndata: [DONE]\n', RequestError),
        (b'data: {"choices": [{"delta": {"content": "A"}}]}\n\n', PassingError),
        (b"data: {oops\n\ndata: [DONE]\n", PassingError),
        (b'{"a":' * 100_000, PassingError),
        (b"[" * 100_000, RequestError),
        (b"9" * 5_000, RequestError),
        (b'data: {"a":' + b"[" * 100_000, PassingError),
    ],
)
def test_odd_bodies_are_failures(body: object, kind: type[Exception]) -> None:
    with no_hang(), pytest.raises(kind) as caught:
        read(body)
    assert len(str(caught.value)) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "delta", "content", "error", "code", "detail"]),
            inner,
            max_size=3,
        )
    ),
)


@given(JSON, st.sampled_from([200, 400, 404, 500]), st.booleans())
def test_any_json_is_a_reply_or_a_failure(data: object, status: int, streams: bool) -> None:
    text = json.dumps(data)
    body = f"data: {text}\n\ndata: [DONE]\n" if streams else text
    with suppress(GridctlError, PassingError):
        assert isinstance(read(body.encode(), status).text, str)


def test_events_end_with_line_feeds_only() -> None:
    event = json.dumps({"choices": [{"delta": {"content": "a\u2028b\x85c"}}]}, ensure_ascii=False)
    for end in ("\n", "\r\n", "\r"):
        assert read(f"data: {event}{end}{end}data: [DONE]{end}".encode()).text == "a\u2028b\x85c"


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after_seconds("7") == 7
    assert retry_after_seconds("0.5") == 0.5
    assert retry_after_seconds("-3") == 0
    soon = datetime.now(timezone.utc) + timedelta(seconds=100)
    assert retry_after_seconds(format_datetime(soon, usegmt=True)) == pytest.approx(99, abs=2)
    past = soon - timedelta(days=1)
    assert retry_after_seconds(format_datetime(past, usegmt=True)) == 0
    assert retry_after_seconds("1e309") == float("inf")
    assert retry_after_seconds("nan") == 0
    odd = ("Mon, 01 Jan 2024 00:00:00 +99999999999", "Mon, 01 Jan 10000 00:00:00 GMT", "9" * 5000)
    for nothing in (None, "", "soon", *odd[:2]):
        assert retry_after_seconds(nothing) is None
    assert retry_after_seconds(odd[2]) == float("inf")
