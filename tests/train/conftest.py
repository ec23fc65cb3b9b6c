import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def float32(cache: Path) -> Iterator[None]:
    """As on a processor without bfloat16, because tests compare to the last bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gridctl.train.setup.has_fast_bfloat16", lambda device: False)
        patch.setenv("GRIDCTL_CACHE", str(cache))
        yield


@pytest.fixture(autouse=True)
def exact(shared_cache: Path) -> Iterator[None]:
    with float32(shared_cache):
        yield


@pytest.fixture(scope="session")
def finished(
    make_profile: Callable[..., Any], shared_cache: Path, made_once: Callable[..., Path]
) -> Path:
    """The adapter of a run of three steps with a checkpoint each. To look at only."""
    from gridctl.train import train

    def fill(folder: Path) -> None:
        with float32(shared_cache):
            train(
                make_profile(
                    train__output=folder / "a.safetensors",
                    train__steps=3,
                    train__checkpoint_every=1,
                )
            )

    return made_once("finished", fill) / "a.safetensors"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of that adapter and its run folder, to go on with."""
    shutil.copytree(finished.with_suffix(".run"), tmp_path / "a.run")
    return Path(shutil.copy(finished, tmp_path))


@pytest.fixture
def val_dataset(dataset: Path, tmp_path: Path) -> Path:
    """Three grids to train on, one in val/."""
    folder = Path(shutil.copytree(dataset, tmp_path / "vidgrid"))
    (folder / "val").mkdir()
    for suffix in (".png", ".txt"):
        (folder / f"clip_0004{suffix}").rename(folder / "val" / f"clip_0004{suffix}")
    return folder


@pytest.fixture(scope="session")
def load(make_profile: Callable[..., Any], shared_cache: Path) -> Callable[..., Any]:
    """Set up and load a run without training: keys of a profile → a Run."""
    from gridctl.progress import silent
    from gridctl.train.setup import fill_cache, load_run, make_accelerator, set_up

    def run(**keys: Any) -> Any:
        with float32(shared_cache):
            profile = make_profile(**keys)
            setup = set_up(profile, progress=silent)
            fill_cache(setup, progress=silent)
            return load_run(setup, make_accelerator(profile), progress=silent)

    return run
