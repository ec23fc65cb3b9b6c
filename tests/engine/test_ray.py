"""Packing on Ray. The dataset is byte-identical to the local engine's, whatever dies meanwhile."""

import importlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from gridctl.dataset.grid_image import load_grid
from gridctl.engine.ray import Tasks, import_ray, run_jobs
from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.geometry import Grid
from gridctl.pack import pack
from tests.media.clips import textured, write
from tests.settings import pack_profile

ROOT = Path(__file__).parents[2]
GRID = Grid(rows=2, cols=2, cell=(32, 32))
FLAGS = ["--rows", "2", "--cols", "2", "--cell", "32", "--sample", "windows", "--engine", "ray"]
PACK = {"sample": "windows", "format": "png"}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clips in train/ and val/, one with a text and one that is no clip."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # Ray's workers import gridctl
    folder = Path("videos")
    for number in range(8):
        path = tmp_path / folder / ("val" if number % 3 == 2 else "train") / f"vid{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, textured(24, seed=number), options={"g": "10"})
    (folder / "train" / "vid1.txt").write_text("ein Bär läuft")
    (folder / "train" / "broken.mp4").write_bytes(b"no film" * 100)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_dataset_packed_on_ray_is_byte_identical(sources: Path) -> None:
    here = pack([sources], Path("local"), pack_profile(GRID, **PACK))
    there = pack([sources], Path("ray"), pack_profile(GRID, engine="ray", workers=2, **PACK))
    assert content(Path("ray")) == content(Path("local"))
    assert "train/metadata.jsonl" in content(Path("ray"))
    assert [path.name for path in there.written] == [path.name for path in here.written]
    assert there.failed == here.failed  # the paths in the line are those that were given
    # The engine is not among the things that make a grid another one.
    again = pack([sources], Path("ray"), pack_profile(GRID, **PACK))
    assert (again.written, len(again.skipped)) == ((), len(there.written))


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install ray"):
        list(run_jobs([1], print, name=str, tasks=Tasks()))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray of this machine, connected. Functions of this file travel to its workers by value."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ray = import_ray()
    ray.init(
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray
    ray.shutdown()


def act(job: str, *, tick: Callable[[], None]) -> str:
    tick()
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.startswith("once") and not Path(job.partition(" ")[2]).exists():
        Path(job.partition(" ")[2]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "hang":
        time.sleep(60)
    if job == "bad":
        raise InputError("bad is bad; replace it.")
    if job == "bug":
        raise KeyError("oops")
    return job.upper()[:4]


class FakeRay:
    """A cluster of one core on which each job of `faults` meets these faults, one per try."""

    def __init__(self, faults: dict[str, list[Exception]]) -> None:
        self.exceptions = import_ray().exceptions
        self.faults = faults

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        assert options == {"num_cpus": 1.0, "max_retries": 0}
        return lambda function: types.SimpleNamespace(remote=lambda job, *_: (job, object()))

    def cluster_resources(self) -> dict[str, int]:
        return {"CPU": 1}

    def wait(self, running: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return running[:1], running[1:]

    def get(self, reference: tuple[str, object]) -> str:
        if faults := self.faults[reference[0]]:
            raise faults.pop(0)
        return "done"


@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [
        ("", "done"),
        ("worker", "done"),
        ("worker worker", "A ended its worker 2 times; replace it or leave it out."),
        ("node node node node", "done"),
        ("node node node object node", "A was lost with its node 5 times; run the command again."),
        ("node node worker node object", "done"),
        ("worker node worker", "A ended its worker 2 times; replace it or leave it out."),
        (
            "memory memory",
            "A needs more memory than its node has; use --workers 1, or leave it out.",
        ),
    ],
)
def test_a_lost_node_is_not_the_fault_of_its_job(
    kinds: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = import_ray().exceptions
    faults = {
        "worker": known.WorkerCrashedError(),
        "node": known.NodeDiedError("gone"),
        "object": known.ObjectLostError("00", "", ""),
        "memory": known.OutOfMemoryError("full"),
    }
    cluster = FakeRay({"a": [faults[kind] for kind in kinds.split()], "b": []})
    monkeypatch.setattr("gridctl.engine.ray.connected", lambda *_: nullcontext(cluster))
    outcomes = dict(run_jobs("ab", act, name=str.title, tasks=Tasks()))
    assert outcomes == {0: outcome, 1: "done"}


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_job_that_fails_costs_its_line_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = ["a", "crash", f"once {tmp_path / 'seen'}", "bad", "hang", "bug", "c"]
    outcomes = dict(run_jobs(jobs, act, name=str.title, tasks=Tasks(stall_seconds=2.0)))
    assert [outcomes[number] for number in range(len(jobs))] == [
        "A",
        "Crash ended its worker 2 times; replace it or leave it out.",
        "ONCE",
        "bad is bad; replace it.",
        "Hang ended its worker 2 times; replace it or leave it out.",
        "Bug met a bug in gridctl (KeyError: 'oops'); please report it.",
        "C",
    ]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_nodes_without_gridctl_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "only_here.py"
    module.write_text("def work(job, *, tick): return job")
    monkeypatch.syspath_prepend(str(tmp_path))
    only_here = importlib.import_module("only_here")
    module.unlink()  # and so it is missing where the workers look
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    with pytest.raises(GridctlError, match=r"No module named .only_here.*same gridctl on each"):
        list(run_jobs([1, 2], only_here.work, name=str, tasks=Tasks()))


def note(job: Path, *, tick: Callable[[], None]) -> None:
    try:
        job.with_suffix(".began").touch()
        while True:
            tick()
            time.sleep(0.01)
    finally:
        job.with_suffix(".ended").touch()


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_jobs_in_flight_are_limited_and_cancelled_cleanly(tmp_path: Path) -> None:
    jobs = [tmp_path / f"{number:03}" for number in range(100)]
    asked: list[Path] = []

    def interrupt(*_: object) -> None:
        if len(list(tmp_path.glob("*.began"))) == 2:
            raise InterruptedError
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    def name(job: Path) -> str:
        asked.append(job)
        return job.name

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(InterruptedError):
            list(run_jobs(jobs, note, name=name, tasks=Tasks()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(asked) == 4  # two run, two wait
    assert len(list(tmp_path.glob("*.began"))) == len(list(tmp_path.glob("*.ended"))) == 2


@pytest.mark.slow
def test_an_address_without_a_cluster_is_one_line() -> None:
    with pytest.raises(GridctlError, match="no Ray at") as caught:
        list(run_jobs([1], print, name=str, tasks=Tasks(), address="127.0.0.1:1"))
    assert "\n" not in str(caught.value)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores; tests add nodes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20},
    )
    yield cluster
    cluster.shutdown()


def add_node(cluster: Any, cores: int) -> Any:
    return cluster.add_node(num_cpus=cores, object_store_memory=80 * 2**20)


@pytest.mark.slow
def test_a_worker_and_a_node_that_die_half_way_change_nothing(sources: Path, cluster: Any) -> None:
    pack([sources], Path("local"), pack_profile(GRID, **PACK))
    nodes = [add_node(cluster, 1), add_node(cluster, 1)]
    killed: list[str] = []

    def kill(done: int, total: int, text: str) -> None:
        if done >= 2 and not killed:
            # Between two jobs none is busy; then at the next call.
            busy = [p for p in psutil.Process().children(recursive=True) if is_busy(p)]
            for process in busy[:1]:
                process.kill()
                killed.append("worker")
        elif done >= 4 and len(killed) == 1:
            cluster.remove_node(nodes[0], allow_graceful=False)
            killed.append("node")

    profile = pack_profile(GRID, engine="ray", ray_address=cluster.address, **PACK)
    result = pack([sources], Path("ray"), profile, progress=kill)
    assert killed == ["worker", "node"]
    assert [failure.path.name for failure in result.failed] == ["broken.mp4"]
    assert content(Path("ray")) == content(Path("local"))


def is_busy(process: psutil.Process) -> bool:
    try:
        return (process.cmdline() or [""])[0].startswith("ray::_attempt")
    except psutil.NoSuchProcess:
        return False


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "gridctl", "pack", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_drivers_share_a_folder_by_shard(sources: Path, cluster: Any) -> None:
    (sources / "train" / "broken.mp4").unlink()
    for part in "12":
        pack([sources], Path("local"), pack_profile(GRID, sample="windows"), shard=(int(part), 2))
    add_node(cluster, 2)
    address = ["--ray-address", cluster.address]
    drivers = [
        start(sources, "-o", "ray", *FLAGS, "--shard", f"{i}/2", *address, "-q") for i in "12"
    ]
    for driver in drivers:
        output, errors = driver.communicate(timeout=120)
        assert (driver.returncode, errors) == (0, "")
        assert output.count(".jpg\n") == len(output.splitlines()) == 24
    assert content(Path("ray")) == content(Path("local"))


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_and_the_next_run_continues(sources: Path) -> None:
    (sources / "train" / "broken.mp4").unlink()
    write(sources / "train" / "long.mp4", textured(2000), options={"g": "10"})
    pack([sources], Path("local"), pack_profile(GRID, sample="windows"))
    driver = start(sources, "-o", "ray", *FLAGS, "--workers", "2")
    while not list(Path("ray").rglob("*.jpg")):
        time.sleep(0.05)
        assert driver.poll() is None, driver.communicate()
    driver.send_signal(signal.SIGINT)
    output, errors = driver.communicate(timeout=120)
    assert (driver.returncode, output) == (130, "")
    assert "Traceback" not in errors
    made = content(Path("ray"))
    assert 0 < len(made) < len(content(Path("local")))
    assert [name for name in made if Path(name).name.startswith(".")] == []
    for name in made:
        load_grid(Path("ray", name))  # whole
    ended = start(sources, "-o", "ray", *FLAGS, "--workers", "2")
    output, errors = ended.communicate(timeout=120)
    assert ended.returncode == 0, errors
    assert content(Path("ray")) == content(Path("local"))
