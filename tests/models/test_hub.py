"""What the Hub answers, and the hashes of files too large to read each time."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gridctl.errors import InputError, UsageError
from gridctl.models import flux1
from gridctl.models.family import TextLimits
from gridctl.models.hub import (
    file_hash,
    find_family,
    text_limits,
    transformer_config,
    weight_folders,
)
from gridctl.profile import load_profile
from gridctl.tiny.weights import BASE_FOLDER

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


def limits_of(base: str | None, **model: object) -> TextLimits:
    values = {f"model.{key}": value for key, value in {"base": base, **model}.items() if value}
    return text_limits(load_profile(None, values).profile)


def test_text_limits_are_flux_1s_for_a_profile_without_a_base() -> None:
    limits = limits_of(None)
    assert (limits.whole.tokens, limits.opening.tokens) == (512, 77)
    assert limits.whole.file is limits.opening.file is None
    assert limits_of(None, text_tokens=64).whole.tokens == 64


def test_text_limits_of_the_built_in_base_are_counted_by_its_tokenizers() -> None:
    limits = limits_of("tiny")
    assert (limits.whole.tokens, limits.opening.tokens) == (40, 77)
    assert limits.whole.count("a red circle") == 4
    assert limits.opening.count("a red circle") == 5


def test_a_folder_is_a_base_model_and_the_profiles_limit_wins() -> None:
    limits = limits_of(str(BASE_FOLDER), text_tokens=32)
    assert limits.whole.tokens == 32
    assert limits.whole.count("a red circle") == 4


@pytest.mark.parametrize("name", ["nobody/nothing", "not a model: at all"])
def test_text_limits_of_a_missing_base_are_estimated(name: str) -> None:
    assert limits_of(name) == limits_of(None)


def test_a_family_is_found_by_the_folder_or_by_the_name(tmp_path: Path) -> None:
    assert find_family("tiny", BASE_FOLDER) is flux1
    assert find_family("black-forest-labs/FLUX.1-dev") is flux1
    assert find_family("somebody/else") is flux1  # nothing is known yet
    assert find_family("somebody/else", tmp_path) is flux1  # an incomplete download
    index = tmp_path / "model_index.json"
    index.write_text('{"transformer": ["diffusers", "WanTransformer3DModel"]}')
    with pytest.raises(UsageError, match="a pipeline of WanTransformer3DModel"):
        find_family("FLUX.1", tmp_path)
    index.write_text("[")
    with pytest.raises(InputError, match="cannot be loaded"):
        find_family("FLUX.1", tmp_path)


def test_the_folders_that_are_hashed_keep_their_order() -> None:
    """The order is part of records that outputs hold."""
    assert weight_folders(flux1) == (
        "transformer", "vae", "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2",
    )  # fmt: skip


def test_the_config_is_the_bases_own_or_flux_1_devs(tmp_path: Path) -> None:
    def config(base: str) -> Any:
        return transformer_config(load_profile(None, {"model.base": base}).profile)

    assert config("tiny")["num_attention_heads"] == 5
    assert config("nobody/nothing") == flux1.TRANSFORMER_CONFIG
    assert config(str(tmp_path)) == flux1.TRANSFORMER_CONFIG
