"""Profiles for captioning, and a GLM-4.1V-class model with the process it runs in."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import gridctl
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.geometry import Grid
from gridctl.profile import Profile, load_profile
from tests.caption.fake_server import Server

GLM = Path(__file__).parent / "glm"
COLOURS = ((220, 20, 20), (20, 20, 220))
GRID = Grid(rows=2, cols=2, cell=(32, 32))


@pytest.fixture
def captioning(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Profile]:
    """[caption] settings → a profile; a mapping is written to a file first."""

    def make(*, mapping: Mapping[str, str] | None = None, **settings: object) -> Profile:
        if mapping is not None:
            path = tmp_path_factory.mktemp("mapping") / "map.jsonl"
            lines = [json.dumps({"file_name": k, "text": v}) for k, v in mapping.items()]
            path.write_text("\n".join(lines))
            settings["mapping"] = path
        return load_profile(None, {f"caption.{k}": v for k, v in settings.items()}).profile

    return make


@pytest.fixture(scope="session")
def glm_environment() -> dict[str, str]:
    """The environment of a process with torchvision, which `make` installs into .venv/vlm."""
    beside = Path(sys.prefix) / "vlm"
    if not beside.is_dir() and importlib.util.find_spec("torchvision") is None:
        pytest.fail("torchvision is missing: make test installs it, or see the Makefile for how.")
    root = Path(gridctl.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(beside)])}
    environment.pop("GRIDCTL_PROFILE", None)
    return environment


@pytest.fixture(scope="session")
def glm(made_once: Callable[..., Path], glm_environment: dict[str, str]) -> Path:
    """A folder with a model that answers which colour it sees; trained here in seconds."""

    def fill(folder: Path) -> None:
        command = [sys.executable, str(GLM / "build.py"), str(folder / "glm")]
        done = subprocess.run(command, env=glm_environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return made_once("models", fill) / "glm"


@pytest.fixture
def run_with_torchvision(
    glm_environment: dict[str, str],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m MODULE ARGUMENTS` in a process with torchvision."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(GLM / "with_torchvision.py"), *map(str, arguments)]
        return subprocess.run(command, env=glm_environment, capture_output=True, text=True)

    return run


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Five grids, red and blue alternating."""
    folder = tmp_path / "vidgrid"
    for number in range(5):
        rng = np.random.default_rng(number)
        picture = np.clip(rng.normal(COLOURS[number % 2], 20, (64, 64, 3)), 0, 255)
        metadata = GridMetadata(
            grid=GRID,
            source=f"c{number}",
            times_seconds=(0.0, 0.1, 0.2, 0.3),
            fps=10.0,
            num_frames=4,
        )
        save_grid(picture.astype(np.uint8), folder / f"vid{number}.png", metadata)
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
