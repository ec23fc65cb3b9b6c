"""What the Hub answers, and the hashes of files too large to read each time."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gridctl.models.hub import file_hash

FIND = (
    "import sys\n"
    "from gridctl.models.hub import find_base\n"
    "find_base('me/flux', sys.argv[1] or None)"
)


class Hub(BaseHTTPRequestHandler):
    """Refuses everything, for the reason that its server was given."""

    def do_GET(self) -> None:
        status, reason = self.server.answer  # type: ignore[attr-defined]
        self.server.tokens.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("X-Error-Code", reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.tokens = []  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "revision", "line"),
    [
        ((403, "GatedRepo"), "", "me/flux needs its licence accepted; accept it on its Hub page"),
        ((404, "RepoNotFound"), "", "the Hub has no me/flux that this account may read"),
        ((404, "RevisionNotFound"), "v2", "the Hub has no me/flux at revision v2 that this"),
        ((500, ""), "", "me/flux is not on this machine and the Hub cannot be reached"),
    ],
)
def test_why_the_hub_refuses_is_one_line(
    hub: ThreadingHTTPServer, tmp_path: Path, answer: tuple[int, str], revision: str, line: str
) -> None:
    """A process of its own: the library reads its variables when it is imported."""
    hub.answer = answer  # type: ignore[attr-defined]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_TOKEN": "hf_secret",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", FIND, revision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(f"gridctl.errors.GridctlError: {line}")
    assert "hf_secret" not in done.stderr
    assert "Bearer hf_secret" in hub.tokens  # type: ignore[attr-defined]


def test_the_hash_of_a_large_file_is_remembered_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, path = tmp_path / "cache", tmp_path / "large.safetensors"
    monkeypatch.setenv("GRIDCTL_CACHE", str(cache))
    with path.open("wb") as file:
        file.truncate(65 * 2**20)
    first = file_hash(path)
    assert first == hashlib.sha256(bytes(65 * 2**20)).hexdigest()
    (known,) = (cache / "hashes").iterdir()
    known.write_text("f" * 64)
    assert file_hash(path) == "f" * 64  # the file is not read again
    known.write_text("")  # as lost power leaves it
    assert file_hash(path) == first
    with path.open("r+b") as file:
        file.write(b"changed")
    assert file_hash(path) != first
    assert len(list((cache / "hashes").iterdir())) == 2


def test_the_hubs_own_name_of_a_large_file_is_its_hash(tmp_path: Path) -> None:
    blob = tmp_path / ("0a" * 32)
    blob.write_bytes(b"not read")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert file_hash(tmp_path / "model.safetensors") == blob.name
