"""A disk that takes only the first bytes of a file, as a quota or a full disk does."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_limits = pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """Files end after `count` bytes: a longer write is short, and the next one fails."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
