"""An S3 on loopback: moto's server, with faults on request and a record of what was asked."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Thread
from typing import Any


@dataclass
class S3Server:
    """`fault(method, path)` may answer a request: "503", or "drop" to break off in its middle."""

    fault: Callable[[str, str], str | None] = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    bytes_sent: int = 0
    url: str = ""

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: Any) -> None:
                pass

        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    def reset(self) -> None:
        self.fault = lambda method, path: None
        self.forget()

    def forget(self) -> None:
        self.requests.clear()
        self.bytes_sent = 0

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        fault = self.fault(method, path)
        if fault == "503":
            start_response("503 Slow Down", [("Content-Length", "0")])
            return []
        answer = self._app(environ, start_response)
        return self._body(answer, breaks_off=fault == "drop")

    def _body(self, answer: Iterable[bytes], *, breaks_off: bool) -> Iterator[bytes]:
        for part in answer:
            if breaks_off:
                yield part[: len(part) // 2]
                raise ConnectionAbortedError
            self.bytes_sent += len(part)
            yield part
