"""What several tests share: a small real dataset, the built-in base, an adapter, the command line.

Nothing here reaches a network: the Hub is switched off, and caches lie in temporary folders.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests.s3_server import S3Server

ROWS, COLS, CELL = 2, 3, 32  # of the small dataset: 24 tokens a grid
_numbers = count(1)  # of buckets
GRID_FLAGS = {"grid.rows": ROWS, "grid.cols": COLS, "grid.cell": f"{CELL}x{CELL}"}


def pytest_configure() -> None:
    # An example of a busy machine may take seconds.
    slow = [HealthCheck.too_slow]
    settings.register_profile(
        "any machine", settings.default, deadline=None, suppress_health_check=slow
    )
    settings.load_profile("any machine")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job ignores Ctrl-C, and so would every command that a test stops.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["HF_HUB_OFFLINE"] = "1"  # the libraries read it when they are imported


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(name, function that fills a folder) → the folder, which all test workers share.

    The first worker that needs it makes it, the others wait.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each worker has a folder in there

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_environment(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, profile or token."""
    monkeypatch.setenv("GRIDCTL_CACHE", str(shared_cache))
    for name in ("GRIDCTL_PROFILE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def dataset(made_once: Callable[..., Path]) -> Path:
    """Four H.264 clips of the toy world, packed as 2x3 cells of 32x32 and captioned."""
    from gridctl.caption import caption
    from gridctl.geometry import Grid
    from gridctl.pack import pack
    from gridctl.tiny.dataset import write_clips
    from tests.settings import pack_profile

    def fill(root: Path) -> None:
        clips = write_clips(root / "videos", count=4, seed=0, num_frames=12, size=(64, 64))
        grid = Grid(rows=ROWS, cols=COLS, cell=(CELL, CELL))
        assert len(pack(clips, root / "vidgrid", pack_profile(grid, format="png")).written) == 4
        assert len(caption([root / "vidgrid"]).written) == 4

    return made_once("dataset", fill) / "vidgrid"


@pytest.fixture(scope="session")
def make_profile(dataset: Path) -> Callable[..., Any]:
    """The profile tiny on the small dataset; keys as in a file: `train__steps=2`."""
    from gridctl.profile import load_profile

    small = {"train.data": dataset, "train.batch_size": 2, "train.rank": 4, "train.log_every": 1}
    small["train.save_dtype"] = "float32"  # so that files can be compared to the last bit
    small["train.keep"] = 0.0  # losses as they are; tests of clean cells set it
    small["generate.true_cfg_scale"] = 1.0  # half the time
    small["generate.true_cfg_max_sigma"] = 1.0  # as diffusers' pipeline draws, like the next
    small["generate.stochastic_min_sigma"] = 1.0

    def make(**values: Any) -> Any:
        changed = {key.replace("__", ".", 1): value for key, value in values.items()}
        profile = load_profile("tiny", {**GRID_FLAGS, **small, **changed}).profile
        # No flags of a user's: the adapter's own grid counts.
        origins = profile.origins | dict.fromkeys(GRID_FLAGS, "default")
        return replace(profile, origins=origins)

    return make


@pytest.fixture(scope="session")
def base(make_profile: Callable[..., Any]) -> Any:
    """The built-in base."""
    from gridctl.models.base import open_base

    return open_base(make_profile())


@pytest.fixture(scope="session")
def transformer(base: Any) -> Any:
    """Its transformer, to look at only: whoever changes one loads an own one."""
    return base.load_transformer()


@pytest.fixture(scope="session")
def adapter(
    make_profile: Callable[..., Any], shared_cache: Path, made_once: Callable[..., Path]
) -> Path:
    """An adapter after two steps, far enough from the base to tell."""
    from gridctl.train import train

    def fill(folder: Path) -> None:
        path = folder / "small.safetensors"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRIDCTL_CACHE", str(shared_cache))
            train(make_profile(train__output=path, train__steps=2, train__learning_rate=0.05))

    return made_once("adapter", fill) / "small.safetensors"


@pytest.fixture(scope="session")
def klein(made_once: Callable[..., Path]) -> Path:
    """FLUX.2-klein with random weights."""
    from tests.klein import make_klein

    return made_once("klein", make_klein)


@pytest.fixture
def gridctl(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line, in this process: arguments → its exit code."""
    from gridctl.__main__ import main

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["gridctl", *map(str, arguments)])
        try:
            return int(main())
        except SystemExit as end:
            return int(end.code or 0)

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, S3Server]]:
    """An empty bucket, such as s3://bucket-3, and its server."""
    import fsspec

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    s3_server.reset()
    bucket = f"bucket-{next(_numbers)}"
    fsspec.filesystem("s3").mkdir(bucket)
    yield f"s3://{bucket}", s3_server
    s3_server.reset()
