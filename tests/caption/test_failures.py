"""Failures of a connection: a server, a proxy or a name that is not there."""

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
from tests.caption.fake_server import Handler, Server, describer, make_grids


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
