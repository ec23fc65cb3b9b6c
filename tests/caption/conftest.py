"""A GLM-4.1V-class model for the tests of captioning, and what runs beside it."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gridctl
from gridctl.geometry import Grid
from gridctl.media.facts import Facts
from gridctl.media.grid_image import save_grid

GLM = Path(__file__).parent / "glm"
COLOURS = ((220, 20, 20), (20, 20, 220))
GRID = Grid(rows=2, cols=2, cell=(32, 32))


@pytest.fixture(scope="session")
def glm_environment() -> dict[str, str]:
    """The environment of a process that has torchvision, which `make` puts into .venv/vlm."""
    beside = Path(sys.prefix) / "vlm"
    if not beside.is_dir() and importlib.util.find_spec("torchvision") is None:
        pytest.fail("torchvision is missing: make test installs it, or see the Makefile for how.")
    root = Path(gridctl.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(beside)])}
    environment.pop("GRIDCTL_PROFILE", None)
    return environment


@pytest.fixture(scope="session")
def glm(tmp_path_factory: pytest.TempPathFactory, glm_environment: dict[str, str]) -> Path:
    """A folder with a model that answers what colour it sees; trained here, in some seconds."""
    folder = tmp_path_factory.mktemp("models") / "glm"
    command = [sys.executable, str(GLM / "build.py"), str(folder)]
    done = subprocess.run(command, env=glm_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run_with_torchvision(
    glm_environment: dict[str, str],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m MODULE ARGUMENTS` in a process that has torchvision."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(GLM / "with_torchvision.py"), *map(str, arguments)]
        return subprocess.run(command, env=glm_environment, capture_output=True, text=True)

    return run


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Five grids, red and blue by turns."""
    folder = tmp_path / "vidgrid"
    for number in range(5):
        rng = np.random.default_rng(number)
        picture = np.clip(rng.normal(COLOURS[number % 2], 20, (64, 64, 3)), 0, 255)
        facts = Facts(
            grid=GRID, source="c", times_seconds=(0.0, 0.1, 0.2, 0.3), fps=10.0, num_frames=4
        )
        save_grid(picture.astype(np.uint8), folder / f"vid{number}.png", facts)
    return folder
