"""Responses that would fill the memory or never end."""

import time
import zlib
from pathlib import Path

import pytest

from gridctl.caption import caption
from gridctl.caption.server import MAX_RESPONSE_BYTES, only_model
from gridctl.errors import GridctlError
from tests.caption.fake_server import Handler, Server, captions, describer, expected, make_grids


def gzip_of_spaces(count: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * 2**20) for _ in range(count >> 20)) + packer.flush()


def test_a_small_body_that_unpacks_to_much(tmp_path: Path, server: Server) -> None:
    bomb = gzip_of_spaces(2**26)  # 64 kB → 64 MB
    asked: list[int] = []

    def behave(handler: Handler, number: int, _: int) -> None:
        asked.append(number)
        handler.reply(200, bomb, Content_Encoding="gzip")

    server.behave = behave
    (failure,) = caption([tmp_path], make_grids(tmp_path, 1), describer=describer(server)).failed
    assert "answers with more than 8 MB; check --server" in failure.reason
    assert asked == [0]  # sending it again would not help


def test_a_body_up_to_the_limit_is_read(tmp_path: Path, server: Server) -> None:
    def behave(handler: Handler, number: int, _: int) -> None:
        body = b'{"choices": [{"message": {"content": "Clip %d runs."}}]}' % number
        handler.reply(200, body.ljust(MAX_RESPONSE_BYTES + number))  # number 1 has one byte more

    server.behave = behave
    result = caption([tmp_path], make_grids(tmp_path, 2), describer=describer(server))
    assert captions(tmp_path) == {0: expected(0)}
    assert [failure.path.name for failure in result.failed] == ["vid1.png"]


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_drip_ends_at_the_timeout(part: str, tmp_path: Path, server: Server) -> None:
    def behave(handler: Handler, number: int, _: int) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        if part == "body":
            handler.wfile.write(b"Content-Length: 60\r\n\r\n")
        for _ in range(60):  # each byte in time, and all of them in three times the timeout
            handler.wfile.write(b"x" if part == "headers" else b" ")
            time.sleep(0.05)

    server.behave = behave
    slow = describer(server, timeout_seconds=1.0, retries=0)
    (failure,) = caption([tmp_path], make_grids(tmp_path, 1), describer=slow).failed
    assert "it does not answer in time" in failure.reason


@pytest.mark.parametrize(
    "answer", [b"[" * 100_000, b'{"data": 3}', b'{"data": [3]}', b'{"data": {"id": 1}}', b"<p>no"]
)
def test_odd_lists_of_models_are_one_error(answer: bytes, server: Server) -> None:
    server.list_models = answer
    with pytest.raises(GridctlError, match="does not list the server's models"):
        only_model(server.url)
