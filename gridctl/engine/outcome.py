"""The outcome of a job: its result, or the one line that says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gridctl.errors import GridctlError

STALL_SECONDS = 300.0  # without a packet, frame or image: the decoder hangs


def outcome_of(job: Any, work: Callable[..., Any], name: str, tick: Callable[[], None]) -> Any:
    """`work(job, tick=tick)`, or the line that says why it failed."""
    try:
        return work(job, tick=tick)
    except GridctlError as error:
        return str(error)
    except MemoryError:
        return f"{name} needs more memory than there is; use --workers 1."
    except Exception as error:
        # A bug that one clip of ten thousand meets must not cost the others.
        fault = f"{type(error).__name__}: {error}"
        return f"{name} met a bug in gridctl ({fault}); please report it."
