import multiprocessing
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.engine.local import run_jobs
from gridctl.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the jobs here need a fork")


def act(job: str, *, tick: Callable[[], None]) -> str:
    tick()
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "quit":
        os._exit(7)
    if job == "hang":
        time.sleep(60)
    if job == "bad":
        raise InputError("bad is bad; replace it.")
    if job == "bug":
        raise KeyError("oops")
    if job == "greedy":
        raise MemoryError
    return job.upper()


@pytest.mark.parametrize("count", [1, 3])
def test_a_worker_that_dies_loses_only_its_job(count: int) -> None:
    jobs = ["a", "crash", "b", "quit", "memory", "bad", "bug", "greedy", "c"]
    outcomes = dict(run_jobs(jobs, act, name=str.title, workers=count))
    assert [outcomes[number] for number in range(len(jobs))] == [
        "A",
        "Crash made its decoder crash (SIGSEGV); replace it or leave it out.",
        "B",
        "Quit made its decoder crash (exit code 7); replace it or leave it out.",
        "Memory was ended by the system, which may be out of memory; replace it or leave it out.",
        "bad is bad; replace it.",
        "Bug met a bug in gridctl (KeyError: 'oops'); please report it.",
        "Greedy needs more memory than there is; use --workers 1.",
        "C",
    ]


def test_a_worker_that_hangs_is_ended_and_another_takes_over() -> None:
    # All of them hang: on a busy machine a job that does not might look as if it did.
    outcomes = run_jobs(["hang"] * 2, act, name=str.title, workers=1, stall_seconds=2)
    line = "Hang made no progress for 2 seconds, so its decoder was ended"
    assert list(outcomes) == [(n, f"{line}; replace it or leave it out.") for n in range(2)]


class Waits:
    """An exception that is raised in a finaliser is printed, and lost."""

    def __del__(self) -> None:
        time.sleep(0.01)


def note_pid(job: Path, *, tick: Callable[[], None]) -> None:
    sys.unraisablehook = sys.__unraisablehook__  # pytest's keeps what it would print
    job.write_text(str(os.getpid()))
    while True:
        tick()
        Waits()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupt_ends_the_workers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    notes = [tmp_path / "1", tmp_path / "2"]

    def interrupt(*_: object) -> None:
        if all(note.exists() and note.read_text() for note in notes):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_jobs(notes, note_pid, name=str, workers=2))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not any(is_alive(int(note.read_text())) for note in notes)
    assert capfd.readouterr().err == ""


def hold(jobs: list[str]) -> None:
    for _ in run_jobs(jobs, act, name=str, workers=2):
        time.sleep(60)


def test_idle_workers_end_when_their_parent_is_gone() -> None:
    """They would hold the output of a killed run open for ever."""
    ours, theirs = os.pipe()  # at its end when all who may write are gone
    run = multiprocessing.get_context("fork").Process(target=hold, args=(["a", "b", "c"],))
    run.start()
    os.close(theirs)
    time.sleep(1)  # both workers have an outcome that nobody takes
    run.kill()
    run.join()
    assert select.select([ours], [], [], 120)[0], "a worker lives on"
    os.close(ours)
