"""Files that are whole or absent: written beside their final name, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gridctl.errors import InputError

CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EFBIG,
    errno.EEXIST, errno.ENAMETOOLONG,
}  # fmt: skip

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<kind>tmp|old)(\.\w*)?")


@contextmanager
def atomic_file(path: Path, *, force: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` if the block succeeds.

    The temporary name keeps the suffix, because writers choose a format by it. Without
    `durable` the disk is not waited for: after a loss of power the file may be empty, which
    is for files that are made again then.
    Raises InputError if `path` exists and `force` is not given, is a folder, or cannot be
    written.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose another name for the file.")
    with _atomic(path, force=force) as temporary:
        yield temporary
        if durable:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers leave a file to its owner alone


@contextmanager
def atomic_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """The same for a folder: yields an empty one beside `path`, renamed when whole.

    Raises InputError as well for a file, and for the current folder or one around it.
    """
    if path.is_file():
        raise InputError(f"{path} is a file; choose another name for the folder.")
    if Path.cwd().is_relative_to(path.resolve()):
        raise InputError(f"{path} holds the current folder; choose another name for the new one.")
    with _atomic(path, force=force) as temporary:
        temporary.mkdir()
        yield temporary


def write_text(path: Path, text: str, *, force: bool = True) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def expand_home(name: str) -> str:
    """`~/name` → the path in the user's home. Unchanged if there is no such home."""
    return os.path.expanduser(name)  # noqa: PTH111  # Path.expanduser raises if there is none


def refuse_overwrite(path: Path, *, force: bool) -> None:
    """Raise InputError if `path` exists and `force` is not given."""
    if not force and path.exists():
        raise InputError(f"{path} exists and is not overwritten; use --force, or another name.")


def sweep_temporaries(folder: Path) -> None:
    """Remove what processes that were killed have left half-written below `folder`.

    A folder that was being replaced gets its old state back.
    """
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            left = _TEMPORARY.fullmatch(name)
            if left is None or _is_running(int(left["pid"])):
                continue
            path = Path(parent, name)
            with suppress(OSError):  # another run sweeps as well, or it is not ours
                if left["kind"] == "old" and not Path(parent, left["name"]).exists():
                    path.rename(Path(parent, left["name"]))
                else:
                    _remove(path)
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


@contextmanager
def _atomic(path: Path, *, force: bool) -> Iterator[Path]:
    refuse_overwrite(path, force=force)
    # Cut short: a name may be as long as the file system lets it, and this one is longer.
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        yield temporary
        if path.is_dir():  # a rename does not replace a folder
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            temporary.rename(path)
            _remove(old)
        else:
            temporary.replace(path)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise  # the block's own affair, such as an input that cannot be read
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}); "
            "free some space, or choose a folder that is yours to write."
        ) from error
    finally:
        with suppress(OSError):  # what could not be made cannot be removed
            _remove(temporary)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
