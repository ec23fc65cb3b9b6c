"""Lists of paths, as `find` or PowerShell write them to stdin."""

from __future__ import annotations

import os
from pathlib import Path

from gridctl.errors import UsageError
from gridctl.storage import as_path
from gridctl.text import decode, lines


def read_paths(data: bytes) -> list[Path]:
    """The paths in a list: one per line, or with NUL after each (`find -print0`).

    A byte order mark tells the encoding (PowerShell writes UTF-16). Without one, names may be
    any bytes. Raises UsageError for an empty list, for one that cannot be decoded, and for a
    line that names the current folder or one above it: no list means that, and packing it would
    take everything there.
    """
    names = [name for name in _names(data) if name]
    if not names:
        raise UsageError("the list on stdin is empty; pipe paths in, such as find . -name '*.mp4'.")
    here = Path.cwd()
    for number, name in enumerate(names, 1):
        if here.is_relative_to(os.path.abspath(name)):  # noqa: PTH100  # no links to follow
            raise UsageError(
                f"entry {number} of the list on stdin is {name!r}, the current folder or one above "
                "it; leave it out, or name that folder as an argument."
            )
    return [as_path(name) for name in names]


def _names(data: bytes) -> list[str]:
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        if _is_marked(data):
            raise UsageError(
                f"the list on stdin is damaged at byte {error.start}; write it again as UTF-8."
            ) from None
        text = os.fsdecode(data)
    if b"\0" in data and not _is_utf16(data):
        return os.fsdecode(data).split("\0")
    return lines(text)


def _is_marked(data: bytes) -> bool:
    return data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:3] == b"\xef\xbb\xbf"


def _is_utf16(data: bytes) -> bool:
    """Whether NULs belong to UTF-16 or UTF-32 line ends, and do not separate names."""
    return _is_marked(data) or b"\n\0" in data or b"\0\n" in data
