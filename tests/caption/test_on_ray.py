"""Captions on Ray equal those made here, whatever the server or a worker does meanwhile."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import psutil
import pytest

from gridctl.caption import caption
from gridctl.errors import GridctlError
from gridctl.profile import load_profile
from gridctl.storage import as_path
from tests.caption.fake_server import KEY, Handler, Server, captions, expected, make_grids
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
GLM = Path(__file__).parent / "glm"


@pytest.fixture(autouse=True)
def _workers_find_gridctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def misbehave(handler: Handler, number: int, attempt: int) -> None:
    time.sleep(0.05)
    if attempt == 0 and number % 3 == 0:
        handler.reply(503, {"error": {"message": "busy"}}, Retry_After="0")
    elif number == 4:
        handler.answer("")
    else:
        handler.answer(f"Clip {number} runs.")


def test_a_server_is_asked_by_tasks_within_one_limit(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.behave = misbehave
    settings = {"backend": "server", "server": server.url, "concurrency": 3, "engine": "ray"}
    profile = make_grids(tmp_path, 12, **settings)

    killed: list[psutil.Process] = []

    def kill(done: int, total: int, text: str) -> None:
        if done >= 3 and not killed:  # between two jobs none is busy; then at the next call
            busy = [p for p in psutil.Process().children(recursive=True) if is_busy(p)]
            killed.extend(busy[:1])
            for process in killed:
                process.kill()

    result = caption([tmp_path], profile, progress=kill)
    assert killed
    assert captions(tmp_path) == {k: expected(k) for k in range(12) if k != 4}
    assert [failure.path.name for failure in result.failed] == ["vid4.png"]
    assert 1 < server.most <= 3
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {KEY}"}


def test_grids_in_storage_are_captioned_by_tasks(
    tmp_path: Path, server: Server, s3: tuple[str, S3Server]
) -> None:
    server.behave = lambda handler, number, _: handler.answer(f"Clip {number} runs.")
    settings = {"backend": "server", "server": server.url, "engine": "ray"}
    profile = make_grids(tmp_path / "here", 4, **settings)
    system, (bucket, _) = fsspec.filesystem("s3"), s3
    system.put(f"{tmp_path / 'here'}/", f"{bucket}/vidgrid/", recursive=True)
    result = caption([as_path(f"{bucket}/vidgrid")], profile)
    assert result.failed == ()
    system.get(f"{bucket}/vidgrid/", f"{tmp_path / 'there'}/", recursive=True)
    assert captions(tmp_path / "there") == {number: expected(number) for number in range(4)}
    lines = (tmp_path / "there" / "metadata.jsonl").read_text().splitlines()
    assert len(lines) == 4


def is_busy(process: psutil.Process) -> bool:
    try:
        return (process.cmdline() or [""])[0].startswith("ray::_attempt")
    except psutil.NoSuchProcess:
        return False


def test_what_fails_for_all_ends_the_run(tmp_path: Path, server: Server) -> None:
    server.behave = lambda handler, *_: handler.reply(401, {"error": {"message": "no"}})
    settings = {"backend": "server", "server": server.url, "engine": "ray"}
    profile = make_grids(tmp_path, 20, **settings)
    with pytest.raises(GridctlError, match="401"):
        caption([tmp_path], profile)
    assert len(server.requests) < 20
    assert captions(tmp_path) == {}


def test_a_vlm_is_loaded_by_an_actor(
    glm: Path,
    coloured: Path,
    glm_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    run_with_torchvision: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    places = [str(GLM / "site"), glm_environment["PYTHONPATH"]]
    monkeypatch.setitem(glm_environment, "PYTHONPATH", os.pathsep.join(places))
    (coloured / "vid2.png").write_bytes((coloured / "vid2.png").read_bytes()[:3000])
    profile = coloured.parent / "mine.toml"
    profile.write_text(f'[caption]\nbackend = "vlm"\nmodel = "{glm}"\nbatch = 2\nengine = "ray"\n')
    done = run_with_torchvision("gridctl", "caption", coloured, "--profile", profile)
    assert done.returncode == 3, done.stderr
    texts = {path.stem: path.read_text() for path in coloured.glob("*.txt")}
    opening = "2x2 grid of 4 video frames in reading order."
    colours = {k: "blue" if k % 2 else "red" for k in (0, 1, 3, 4)}
    assert texts == {
        f"vid{k}": f"{opening} A {c} picture. It stays {c}.\n" for k, c in colours.items()
    }


def test_a_model_that_cannot_be_loaded_is_one_error(coloured: Path) -> None:
    values = {"backend": "vlm", "model": str(coloured), "engine": "ray"}
    profile = load_profile(None, {f"caption.{key}": value for key, value in values.items()}).profile
    with pytest.raises(GridctlError, match=r"cannot be loaded|torchvision"):
        caption([coloured], profile)
