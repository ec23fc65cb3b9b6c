import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gridctl.errors import InputError
from gridctl.files import (
    append_text,
    atomic_file,
    atomic_folder,
    open_regular,
    refuse_overwrite,
    sweep_temporaries,
    write_text,
)

AtomicKind = Callable[..., AbstractContextManager[Path]]
BOTH = pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])


def fill(path: Path, text: str) -> None:
    """Put `text` at `path`, or into a file of it if it is a folder."""
    (path / "frame_0001.txt" if path.is_dir() else path).write_text(text)


def content(path: Path) -> str:
    return (path / "frame_0001.txt" if path.is_dir() else path).read_text()


def crash(atomic: AtomicKind, target: Path, error: type[BaseException]) -> None:
    with atomic(target, force=True) as temporary:
        fill(temporary, "half")
        raise error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@BOTH
def test_it_appears_whole_and_under_its_own_name_only(atomic: AtomicKind, tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "clip.mp4"
    with atomic(target) as temporary:
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith(".")
        fill(temporary, "whole")
    assert content(target) == "whole"
    assert names(target.parent) == ["clip.mp4"]


@BOTH
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
def test_a_crash_in_the_block_leaves_nothing(
    atomic: AtomicKind, error: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(error):
        crash(atomic, tmp_path / "clip", error)
    assert names(tmp_path) == []


@BOTH
def test_a_crash_in_the_block_keeps_the_old_one(atomic: AtomicKind, tmp_path: Path) -> None:
    target = tmp_path / "clip"
    with atomic(target) as temporary:
        fill(temporary, "old")
    with pytest.raises(RuntimeError):
        crash(atomic, target, RuntimeError)
    assert content(target) == "old"
    assert names(tmp_path) == ["clip"]


@BOTH
def test_only_force_overwrites(atomic: AtomicKind, tmp_path: Path) -> None:
    target = tmp_path / "clip"
    for text in ("old", "new"):
        with atomic(target, force=text == "new") as temporary:
            fill(temporary, text)
    assert content(target) == "new"
    with pytest.raises(InputError, match="exists and is not overwritten; use --force"):
        atomic(target).__enter__()
    assert content(target) == "new"
    assert names(tmp_path) == ["clip"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "clips.mp4"
    folder.mkdir()
    fill(folder, "precious")
    with (
        pytest.raises(InputError, match=r"clips\.mp4 is a folder; choose another name"),
        atomic_file(folder, force=True) as temporary,
    ):
        fill(temporary, "new")
    assert content(folder) == "precious"
    assert names(tmp_path) == ["clips.mp4"]


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "clip"
    fill(file, "precious")
    with (
        pytest.raises(InputError, match="clip is a file; choose another name"),
        atomic_folder(file, force=True) as temporary,
    ):
        fill(temporary, "new")
    assert content(file) == "precious"


@pytest.mark.parametrize("name", [".", "..", "../here", "/"])
def test_the_current_folder_and_those_around_it_are_not_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    fill(folder, "precious")
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="contains the current folder; choose another name"):
        atomic_folder(Path(name), force=True).__enter__()
    assert content(folder) == "precious"


WRITER = """
import sys, time
from pathlib import Path
from gridctl.files import atomic_file, atomic_folder
target = Path(sys.argv[2])
with {"file": atomic_file, "folder": atomic_folder}[sys.argv[1]](target, force=True) as temporary:
    part = temporary / "frame_0001.txt" if temporary.is_dir() else temporary
    part.write_text("half")
    print("half written", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("old", [None, "old"])
def test_sigkill_in_the_middle_leaves_what_was_there(
    kind: str, old: str | None, tmp_path: Path
) -> None:
    atomic = {"file": atomic_file, "folder": atomic_folder}[kind]
    target = tmp_path / "clip"
    if old:
        with atomic(target) as temporary:
            fill(temporary, old)
    command = [sys.executable, "-c", WRITER, kind, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half written\n"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=120)
    if old:
        assert content(target) == old
    else:
        assert not target.exists()
    assert all(name == "clip" or name.startswith(".clip.") for name in names(tmp_path))
    with atomic(target, force=True) as temporary:
        fill(temporary, "whole")
    assert content(target) == "whole"


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_of_a_file_follows_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "adapter.safetensors") as temporary:
            fill(temporary, "weights")
            temporary.chmod(0o600)  # as safetensors leaves it
        assert os.umask(umask) == umask  # asked for, not changed
    finally:
        os.umask(before)
    assert (tmp_path / "adapter.safetensors").stat().st_mode & 0o777 == mode


@BOTH
def test_an_unwritable_place_is_a_one_line_error(atomic: AtomicKind, tmp_path: Path) -> None:
    fill(tmp_path / "file", "in the way")
    target = tmp_path / "file" / "clip.mp4"
    with pytest.raises(InputError, match=r"clip\.mp4 cannot be written \(.+\); ") as error:
        atomic(target).__enter__()
    assert "\n" not in str(error.value)
    assert content(tmp_path / "file") == "in the way"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_of_another_user_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            write_text(tmp_path / "caption.txt", "text")
    finally:
        tmp_path.chmod(0o700)


def test_an_input_that_the_block_cannot_find_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "out.txt"):
        (tmp_path / "missing").read_bytes()
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["chmod", "fsync"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_drive_that_lacks_an_operation_is_written_to_all_the_same(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refuse)  # as CIFS, FUSE and object storage answer
    write_text(tmp_path / "caption.txt", "text")
    assert (tmp_path / "caption.txt").read_text() == "text"


def test_a_disk_that_loses_data_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(InputError, match=r"caption\.txt cannot be written \(Input/output error"):
        write_text(tmp_path / "caption.txt", "text")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@BOTH
def test_a_place_where_nothing_can_be_made_is_one_line(atomic: AtomicKind) -> None:
    with pytest.raises(InputError, match="/proc/x/clip cannot be written"):
        atomic(Path("/proc/x/clip")).__enter__()


def leave(folder: Path, kind: str, owner: str, pid: int, *, age_seconds: float = 0.0) -> Path:
    path = folder / f".clip.{owner}.{pid}.gridctl-{kind}.txt"
    fill(path, "half")
    os.utime(path, (time.time() - age_seconds,) * 2)
    return path


def own_temporary(folder: Path) -> tuple[str, int]:
    """(owner, process number) in the names of this process's temporary files."""
    folder.mkdir(exist_ok=True)
    with atomic_file(folder / "clip.txt", force=True) as temporary:
        owner, pid = temporary.name.split(".")[2:4]
        fill(temporary, "whole")
    return owner, int(pid)


DEAD = 2**22 + 1  # above the largest process number of Linux


@pytest.mark.parametrize("kind", ["tmp", "old"])
def test_a_sweep_removes_what_is_certainly_abandoned(kind: str, tmp_path: Path) -> None:
    owner, pid = own_temporary(tmp_path)
    assert pid == os.getpid()
    fill(tmp_path / "clip.txt", "whole")
    kept = [
        leave(tmp_path, kind, owner, pid),
        leave(tmp_path, kind, "another-host-1", DEAD, age_seconds=3600),
    ]
    gone = [
        leave(tmp_path, kind, owner, DEAD),
        leave(tmp_path, kind, "another-host-2", pid, age_seconds=25 * 3600),
    ]
    sweep_temporaries(tmp_path)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


@pytest.mark.parametrize(
    "name",
    [
        ".notes.my-laptop.1234.tmp",
        ".report.final.2024.old",
        ".thesis.v2.7.tmp.docx",
        ".a.b.7.gridctl",
    ],
)
def test_a_hidden_file_of_the_user_stays(name: str, tmp_path: Path) -> None:
    fill(tmp_path / name, "precious")
    os.utime(tmp_path / name, (time.time() - 9 * 24 * 3600,) * 2)
    sweep_temporaries(tmp_path)
    assert content(tmp_path / name) == "precious"


@BOTH
def test_a_folder_is_swept_when_something_is_written(atomic: AtomicKind, tmp_path: Path) -> None:
    owner, _ = own_temporary(tmp_path / "other")
    kept = leave(tmp_path, "tmp", "another-host", DEAD)
    gone = leave(tmp_path, "tmp", owner, DEAD)
    with atomic(tmp_path / "new.txt") as temporary:
        fill(temporary, "whole")
        assert kept.exists()
        assert not gone.exists()


def test_a_folder_whose_replacement_was_killed_comes_back(tmp_path: Path) -> None:
    """Between two renames only the old folder is there, under its temporary name."""
    owner, _ = own_temporary(tmp_path / "other")
    for state in (("old",), ("old", "new")):
        for name in state:
            left = f".clip.7.mp4.{owner}.{DEAD}.gridctl-old"
            path = tmp_path / (left if name == "old" else "clip.7.mp4")
            path.mkdir()
            fill(path, name)
        sweep_temporaries(tmp_path)
        assert content(tmp_path / "clip.7.mp4") == state[-1]
        assert names(tmp_path) == ["clip.7.mp4", "other"]
        shutil.rmtree(tmp_path / "clip.7.mp4")


def test_a_full_disk_is_told_also_by_a_library_in_rust(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    with (
        pytest.raises(InputError, match=r"a cannot be written \(No space left on device\); free"),
        atomic_file(tmp_path / "a"),
    ):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError, match="no tensor"), atomic_file(tmp_path / "a"):
        raise SafetensorError("no tensor")
    assert names(tmp_path) == []


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "caption.txt", "a naïve cat, 猫\n")
    assert (tmp_path / "caption.txt").read_bytes() == "a naïve cat, 猫\n".encode()
    with pytest.raises(InputError):
        write_text(tmp_path / "caption.txt", "another", force=False)


def test_refuse_overwrite_looks_and_touches_nothing(tmp_path: Path) -> None:
    refuse_overwrite(tmp_path / "new", force=False)
    fill(tmp_path / "old", "x")
    refuse_overwrite(tmp_path / "old", force=True)
    with pytest.raises(InputError, match="old exists and is not overwritten"):
        refuse_overwrite(tmp_path / "old", force=False)
    assert names(tmp_path) == ["old"]


def test_of_two_processes_that_make_the_same_folder_the_first_wins(tmp_path: Path) -> None:
    """Somebody may be reading it, so it is not replaced for a moment."""
    path = tmp_path / "shards"
    for _ in range(2):
        with atomic_folder(path, keep_first=True) as mine:
            (mine / "mine").touch()
            path.mkdir(exist_ok=True)
            (path / "other's").touch()  # whole before this one
        assert [file.name for file in path.iterdir()] == ["other's"]
        assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"), atomic_folder(tmp_path / "file"):
        pass


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")


@needs_pipes
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    fill(tmp_path / "file", "text")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "to pipe").symlink_to("pipe")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"text"
    for name in ("pipe", "zeros", "to pipe", "."):
        with pytest.raises(OSError, match="a pipe, a device or a folder"):
            open_regular(tmp_path / name)
    with open_regular(tmp_path / "file", follow=False) as file:
        assert file.read() == b"text"
    for name in ("link", "zeros", "nothing"):
        with pytest.raises(OSError, match=name):
            open_regular(tmp_path / name, follow=False)


@needs_pipes
def test_text_is_appended_to_a_file_and_to_nothing_else(tmp_path: Path) -> None:
    for text in ("one\n", "zwö\n"):
        append_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == "one\nzwö\n".encode()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "new").symlink_to("made by a link")
    for name in ("pipe", "link", "new", "."):
        with pytest.raises(InputError, match="cannot be written"):
            append_text(tmp_path / name, "x")
    assert names(tmp_path) == ["file", "link", "new", "pipe"]
    assert content(tmp_path / "file") == "one\nzwö\n"
