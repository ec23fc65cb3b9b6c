"""One run per run folder: a lock that the system releases however its process ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from gridctl.errors import InputError
from gridctl.files import cannot_write

_NAME = ".lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made if it is not there.

    `flock` works between machines as well where the disk is shared by NFS or a cluster file
    system. A file system without locks is used unlocked.

    Raises InputError while another process holds it, or if the folder cannot be written.
    """
    with _open_lock(folder) as file:  # never deleted: others may be waiting for it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is in use by another run ({_holder(folder)}); wait for it, stop it, or "
                "choose another output (-o)."
            ) from None
        except OSError:
            yield
            return
        file.truncate(0)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        file.write(json.dumps(holder))
        file.flush()
        yield


def _open_lock(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / _NAME).open("a+")
    except OSError as error:
        raise cannot_write(folder, error) from error


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / _NAME).read_text())
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(holder["since"]))
        return f"process {holder['pid']} on {holder['host']}, since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "just started"
