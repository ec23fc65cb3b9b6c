"""The folder of everything that gridctl computes once and finds again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridctl.errors import InputError
from gridctl.files import atomic_file, expand_home


def cache_folder() -> Path:
    """$GRIDCTL_CACHE, else $XDG_CACHE_HOME/gridctl, else ~/.cache/gridctl.

    Raises InputError for a user without a home folder.
    """
    if own := os.environ.get("GRIDCTL_CACHE"):
        return Path(expand_home(own))
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(expand_home(shared)) / "gridctl"
    try:
        return Path.home() / ".cache" / "gridctl"
    except RuntimeError:
        raise InputError(
            "this user has no home folder for the cache; set GRIDCTL_CACHE to a folder that can "
            "be written."
        ) from None


@contextmanager
def cache_file(path: Path) -> Iterator[Path]:
    """`atomic_file` for an entry of the cache; replaces an entry that another run has written.

    The disk is not waited for: after a loss of power an entry may be empty, and is made again.

    Raises InputError, which names GRIDCTL_CACHE, if the cache cannot be written.
    """
    try:
        with atomic_file(path, force=True, durable=False) as temporary:
            yield temporary
    except InputError as error:
        raise InputError(
            f"the cache cannot be written: {str(error).partition('; ')[0]}; set GRIDCTL_CACHE to "
            "a folder with free space that you may write to."
        ) from error
