"""Files that are whole or absent: written beside their final name, then renamed.

Why not a library: atomicwrites is no longer maintained, and none of those that are replaces
folders, keeps the suffix (writers choose a format by it) or sweeps what a killed process left.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal, cast

from gridctl.errors import InputError
from gridctl.storage import StorageError, Url

# A disk that cannot take more, whatever file the error names.
NO_ROOM = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.ESTALE,
}  # fmt: skip
# What fsync and chmod say on drives that do not know them: CIFS, FUSE, object storage.
NOT_SUPPORTED = {
    errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES,
    errno.EBADF,
}  # fmt: skip

PROBE = ".gridctl-probe"
DAY_SECONDS = 24 * 60 * 60
# No other program gives files such names, and no user does.
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<owner>[\w-]+)\.(?P<pid>\d+)\.gridctl-(?P<kind>tmp|old)(\.\w*)?"
)
_UPLOAD = re.compile(r"gridctl-(?P<owner>[\w-]+)\.(?P<pid>\d+)-\w+")


@contextmanager
def atomic_file(path: Path, *, force: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` if the block succeeds.

    The temporary name keeps the suffix, because writers choose a format by it. Without
    `durable` the file may be empty after a loss of power. That is for files that can be made
    again, because waiting for the disk takes time.
    For a URL the temporary file is on this machine, and uploading it is the last act: storage
    shows an upload when it is complete.
    Raises InputError if `path` exists and `force` is not given, if it is a folder, or if it
    cannot be written.
    """
    if isinstance(path, Url):
        with _uploaded(path, force=force) as temporary:
            yield temporary
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose another name for the file.")
    with _atomic(path, force=force) as temporary:
        yield temporary
        if durable:
            with _if_supported(), temporary.open("r+b") as written:
                os.fsync(written.fileno())
        with _if_supported():  # some writers make files that only their owner can read
            temporary.chmod(0o666 & ~_umask())


@contextmanager
def atomic_folder(path: Path, *, force: bool = False, keep_first: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path`; rename it to `path` if the block succeeds.

    With `keep_first`, a folder that another process has put there meanwhile stays, and this one
    is discarded: for folders that always have the same content, and may be in use already.
    Raises InputError also if `path` is a file, or the current folder or one above it.
    """
    if path.is_file():
        raise InputError(f"{path} is a file; choose another name for the folder.")
    if Path.cwd().is_relative_to(path.resolve()):
        raise InputError(f"{path} contains the current folder; choose another name.")
    with _atomic(path, force=force, keep_first=keep_first) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def _uploaded(url: Url, *, force: bool) -> Iterator[Path]:
    """Yield the name of a local file, and upload it if the block succeeds."""
    url.refuse_unwritable()
    refuse_overwrite(cast(Path, url), force=force)
    _sweep_once(cast(Path, url.parent))
    import tempfile

    owner = f"gridctl-{_this_machine()}.{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=owner) as folder:
        temporary = Path(folder, url.name)
        yield temporary
        url.upload(temporary)


def entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """(folders, files) in a folder, in no order. Raises OSError if it cannot be read."""
    folders: list[Path] = []
    files: list[Path] = []
    if isinstance(folder, Url):
        for path in folder.iterdir():
            (folders if path.is_dir() else files).append(cast(Path, path))
        return folders, files
    with os.scandir(folder) as found:
        for entry in found:
            is_folder = False
            with suppress(OSError):  # links in a circle
                is_folder = entry.is_dir()
            (folders if is_folder else files).append(folder / entry.name)
    return folders, files


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a file for reading that somebody else may have put there.

    Raises OSError, without waiting, for a pipe, a device or a folder, and for a link unless
    `follow`.
    """
    if isinstance(path, Url):
        return cast(BinaryIO, path.open("rb"))
    return os.fdopen(_regular(path, os.O_RDONLY, follow=follow), "rb")


def append_text(path: Path, text: str) -> None:
    """Append UTF-8 text to a file. Raises InputError for a link, a pipe or a device."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, follow=False)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(text)


def _regular(path: Path, flags: int, *, follow: bool) -> int:
    """A descriptor of a regular file."""
    for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK", *(() if follow else ("O_NOFOLLOW",))):
        flags |= getattr(os, name, 0)  # not every system has all of them
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a pipe, a device or a folder", str(path))
    return descriptor


def write_text(path: Path, text: str, *, force: bool = True, durable: bool = True) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path, force=force, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def expand_home(name: str) -> str:
    """`~/name` → the path in the user's home. Unchanged if there is no such home."""
    return os.path.expanduser(name)  # noqa: PTH111  # Path.expanduser raises if there is none


def refuse_overwrite(path: Path, *, force: bool) -> None:
    """Raise InputError if `path` exists and `force` is not given."""
    if not force and path.exists():
        raise InputError(f"{path} exists and is not overwritten; use --force, or another name.")


def refuse_unwritable(folder: Path) -> None:
    """Raise InputError if nothing can be written in `folder`, or where it would be made.

    So that a read-only disk or bucket is reported once, before any work.
    """
    if isinstance(folder, Url):
        folder.refuse_unwritable()
        with atomic_file(folder / PROBE, force=True) as file:
            file.touch()
        with suppress(StorageError):  # who may write need not have the right to delete
            (folder / PROBE).unlink(missing_ok=True)  # another run may have removed it
        return
    with _writing(folder):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        probe = _beside(existing / "probe", "tmp")
        probe.touch()
        probe.unlink()


def sweep_temporaries(folder: Path) -> None:
    """Remove what killed processes left half-written in `folder`.

    That is what a dead process of this machine left, and what is older than a day: others may be
    writing to a shared disk. A folder that was being replaced gets its old state back. Storage
    has nothing half-written, but this machine may have files that were to be uploaded.

    `atomic_file` and `atomic_folder` do this once for each folder. Call it before you look which
    files a folder has.
    """
    if isinstance(folder, Url):
        _sweep_uploads()
        return
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208  # without a Path each
    for name in names:
        left = _TEMPORARY.fullmatch(name)
        path = folder / name
        if left is None or not _is_abandoned(path, left["owner"], int(left["pid"])):
            continue
        with suppress(OSError):  # another process sweeps too, or it belongs to another user
            if left["kind"] == "old" and not (folder / left["name"]).exists():
                path.rename(folder / left["name"])
            else:
                _remove(path)


@cache
def _sweep_once(folder: Path) -> None:
    with suppress(OSError):
        sweep_temporaries(folder)


def _sweep_uploads() -> None:
    import tempfile

    for path in Path(tempfile.gettempdir()).glob("gridctl-*"):
        left = _UPLOAD.fullmatch(path.name)
        if left and left["owner"] == _this_machine() and not _is_running(int(left["pid"])):
            with suppress(OSError):  # another process sweeps too, or it belongs to another user
                _remove(path)


def _is_abandoned(path: Path, owner: str, pid: int) -> bool:
    if owner == _this_machine():
        return not _is_running(pid)
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > DAY_SECONDS
    return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it belongs to another user
    return True


@cache
def _this_machine() -> str:
    """The space in which a process number is unique: a host, or a container on it."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:32]
    with suppress(OSError):
        host += "-" + "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid")))  # noqa: PTH115
    return host or "host"


@contextmanager
def _atomic(path: Path, *, force: bool, keep_first: bool = False) -> Iterator[Path]:
    temporary = _beside(path, "tmp")
    with _writing(path):
        _sweep_once(path.parent.absolute())
        refuse_overwrite(path, force=force or keep_first)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
    try:
        try:
            yield temporary
        except Exception as error:
            fault = _system_error(error)
            ours = fault and str(fault.filename or temporary).startswith(str(temporary))
            if fault and (fault.errno in NO_ROOM or (ours and fault.errno is not None)):
                raise cannot_write(path, fault) from error
            raise  # the block's own, such as an input that cannot be read
        with _writing(path):
            if keep_first:
                _put_first(temporary, path)
            else:
                _put_in_place(temporary, path)
    finally:
        with suppress(OSError):  # what could not be made cannot be removed
            _remove(temporary)


def _beside(path: Path, kind: Literal["tmp", "old"]) -> Path:
    """The name beside `path` of what is being written there, or replaced."""
    owner = f"{_this_machine()}.{os.getpid()}.gridctl-{kind}"
    if kind == "old":
        return path.with_name(f".{path.name}.{owner}")
    # Cut, because a name may already be as long as the file system allows.
    return path.with_name(f".{path.stem[:40]}.{owner}{path.suffix}")


def _system_error(error: Exception) -> OSError | None:
    """The fault of the system behind an exception: libraries in Rust raise exceptions of theirs."""
    if isinstance(error, OSError):
        return error
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def _put_first(temporary: Path, path: Path) -> None:
    try:
        temporary.rename(path)  # never replaces a folder that has something in it
    except OSError:
        if not path.is_dir():
            raise


def _put_in_place(temporary: Path, path: Path) -> None:
    if path.is_dir():  # a rename does not replace a folder
        old = _beside(path, "old")
        path.rename(old)
        temporary.rename(path)
        _remove(old)
    else:
        temporary.replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn any OSError of the block into the line that says that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def _if_supported() -> Iterator[None]:
    """Go on where the drive does not know an operation that is only nice to have."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def cannot_write(path: Path, error: OSError) -> InputError:
    """The line for a file or folder that cannot be written."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if is_full else "choose a folder that you may write to"
    return InputError(f"{path} cannot be written ({error.strerror or error}); {remedy}.")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
