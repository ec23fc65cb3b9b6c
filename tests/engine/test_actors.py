"""Actors prepare once and survive the death of one."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gridctl.engine.actors import run_on_actors
from gridctl.engine.ray import import_ray
from gridctl.errors import GridctlError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _functions_travel_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    import_ray().cloudpickle.register_pickle_by_value(sys.modules[__name__])


def prepare(folder: Path) -> Callable[[str], str]:
    (folder / str(os.getpid())).touch()

    def work(job: str) -> str:
        seen = folder / f"seen-{job}"
        if job == "crash" or (job == "once" and not seen.exists()):
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return job.upper()

    return work


def test_an_actor_prepares_once_and_a_new_one_takes_over(tmp_path: Path) -> None:
    jobs = [*"abc", "once", *"def", "crash", *"ghi"]
    results = dict(run_on_actors(jobs, partial(prepare, tmp_path)))
    crashed = results.pop("crash")
    assert isinstance(crashed, GridctlError)
    assert "ended 2 times" in str(crashed)
    assert results == {job: job.upper() for job in jobs if job != "crash"}
    assert len([path for path in tmp_path.iterdir() if path.name.isdecimal()]) == 4


def fail() -> Callable[[str], str]:
    raise GridctlError("no such model.")


def test_what_cannot_be_prepared_ends_the_run() -> None:
    with pytest.raises(GridctlError, match="no such model"):
        list(run_on_actors("abc", fail))
