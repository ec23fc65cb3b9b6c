"""A server on loopback with the OpenAI API, which makes whatever mistake a test asks for."""

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.caption.server import ServerDescriber
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.geometry import Grid
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
        data: Any = {"data": [{"id": name} for name in self.server.models]}
        if self.server.get_status != 200:
            data = {"error": {"message": f"not you, {self.headers['Authorization']}"}}
        self.reply(self.server.get_status, self.server.list_models or data)

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

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.tries: Counter[int] = Counter()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.models = ["glm"]
        self.get_status = 200
        self.list_models: bytes | None = None  # instead of `models`
        self.behave: Behaviour = lambda handler, number, _: handler.answer(f"Clip {number} runs.")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that hung up is none


def describer(server: Server, *, key: str | None = None, **settings: Any) -> ServerDescriber:
    settings = {"timeout_seconds": 60.0, **settings, "server": server.url}
    return ServerDescriber(
        settings=CaptionSection(**settings), model="glm", key=key, first_backoff_seconds=0.01
    )


def make_grids(folder: Path, count: int, **settings: object) -> Profile:
    """Write `count` grids of noise; the profile's mapping names each one's number."""
    rng = np.random.default_rng(0)
    facts = GridMetadata(
        grid=GRID, source="c", times_seconds=(0.0, 0.1, 0.2, 0.3), fps=10.0, num_frames=4
    )
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
