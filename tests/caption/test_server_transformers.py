"""`server` against `transformers serve`, started here on loopback with a GLM-4.1V-class model."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from gridctl.caption import caption
from gridctl.profile import Profile

Captioning = Callable[..., Profile]

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "glm" / "with_torchvision.py"


@pytest.fixture(scope="module")
def serve(
    glm: Path, glm_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a real server with the model loaded."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, SCRIPT, "transformers.cli.transformers", "serve", glm]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            list(map(str, command)), env=glm_environment, stdout=output, stderr=output
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                requests.get(f"{address}/health", timeout=120).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.5)
        else:
            pytest.fail(f"transformers serve did not start: {log.read_text()}")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=120)


@pytest.mark.parametrize("view", ["grid", "frames"])
def test_transformers_serve_describes_what_it_sees(
    view: str, serve: str, glm: Path, coloured: Path, captioning: Captioning
) -> None:
    profile = captioning(backend="server", server=serve, model=str(glm), concurrency=4, view=view)
    result = caption([coloured], profile)
    assert result.failed == ()
    for number in range(5):
        colour = "blue" if number % 2 else "red"
        text = (coloured / f"vid{number}.txt").read_text()
        assert text.endswith(f"order. A {colour} picture. It stays {colour}.\n")


def test_the_command_line_asks_a_running_server(
    serve: str, glm: Path, coloured: Path, gridctl: Callable[..., int]
) -> None:
    assert gridctl("caption", coloured, "--server", serve, "--model", glm) == 0
    assert len(list(coloured.glob("*.txt"))) == 5
    assert gridctl("caption", coloured, "--check") == 1  # it says the same of all red ones


def test_a_model_that_the_server_lacks_ends_the_run(
    serve: str, coloured: Path, gridctl: Callable[..., int]
) -> None:
    flags = ["--server", serve, "--model", "nobody/nothing", "--profile", "tiny"]
    assert gridctl("caption", coloured, *flags) in (1, 3)
    assert not list(coloured.glob("*.txt"))
