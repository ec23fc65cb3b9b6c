"""When the next request may be sent: within the rate limit, and not during a server's pause."""

from __future__ import annotations

import random
import threading
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_BACKOFF_SECONDS = 60.0


class Gate:
    """Lets requests pass in turn, from any number of threads."""

    def __init__(self, rate_per_minute: float | None = None) -> None:
        self._spacing = 60 / rate_per_minute if rate_per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0
        self._closed_until = 0.0

    def close(self, seconds: float) -> None:
        """Let no request pass for `seconds`, the pause that the server asked for."""
        with self._lock:
            self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def pass_through(self, stop: threading.Event) -> None:
        """Wait for this request's turn, or until `stop` is set."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._spacing
        while not stop.is_set():
            seconds = max(turn, self._closed_until) - time.monotonic()
            if seconds <= 0:
                return
            stop.wait(seconds)


def backoff_seconds(attempt: int, first_seconds: float) -> float:
    """Seconds to wait after try `attempt` (from 0): doubling each time, with some randomness."""
    longest: float = min(MAX_BACKOFF_SECONDS, first_seconds * 2**attempt)
    return longest * random.uniform(0.5, 1.0)


def retry_after_seconds(header: str | None) -> float | None:
    """The pause in a Retry-After header, seconds or a date (RFC 9110, 10.2.3); None if neither."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
