import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gridctl.errors import InputError
from gridctl.train.run import run_lock

HOLD = """
import sys, time
from pathlib import Path
from gridctl.train.run import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    folder = tmp_path / "a.run"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=f"in use by another run .process {first.pid} on ") as e,
            run_lock(folder),
        ):
            raise AssertionError("two runs at once")
        assert "\n" not in str(e.value)
        first.send_signal(signal.SIGKILL)
    with run_lock(folder):  # a crash leaves no lock behind
        assert f'"pid": {os.getpid()}' in (folder / ".lock").read_text()


def test_a_lock_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path):
            pass
    with run_lock(tmp_path), pytest.raises(InputError), run_lock(tmp_path):
        raise AssertionError("two runs at once")


def test_a_run_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"), run_lock(tmp_path / "a" / "a.run"):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_storage_without_locks_is_used_unlocked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    code: int,
) -> None:
    """As some network drives are: the system says so when a lock is asked for."""

    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    for _ in range(2):
        with run_lock(tmp_path), run_lock(tmp_path):
            (tmp_path / "work").touch()
    assert list(recwarn) == []


def test_another_fault_of_a_lock_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", flock)
    refused = pytest.raises(InputError, match=r"cannot be written .Input/output error")
    with refused, run_lock(tmp_path):
        pass


def test_a_lock_that_is_a_link_empties_no_file(tmp_path: Path) -> None:
    """A run folder may come from others."""
    (tmp_path / "precious").write_text("precious")
    folder = tmp_path / "a.run"
    folder.mkdir()
    (folder / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match="cannot be written"), run_lock(folder):
        pass
    assert (tmp_path / "precious").read_text() == "precious"
