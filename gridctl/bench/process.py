"""Contestants that are processes of their own, and the cache that they share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridctl.errors import GridctlError


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """A cache of the benchmark's own, for this process and those that it starts."""
    before = os.environ.get("GRIDCTL_CACHE")
    os.environ["GRIDCTL_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["GRIDCTL_CACHE"]
        if before is not None:
            os.environ["GRIDCTL_CACHE"] = before


def run_python(program: str, *arguments: str) -> None:
    """Run a program in a fresh interpreter; raises what `run_command` raises."""
    run_command([sys.executable, "-c", program, *arguments])


def run_command(command: list[str]) -> None:
    """Run a command without its output; GridctlError with its last line if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:  # never time work that was not done
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise GridctlError(f"a contestant failed: {lines[-1]}")
