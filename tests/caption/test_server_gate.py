import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from gridctl.caption.response import retry_after_seconds
from gridctl.caption.server import MAX_BACKOFF_SECONDS, RequestGate, backoff_seconds


class Clock:
    """Time that passes only while somebody waits; a real Event could not be looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.stopped = False
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def is_set(self) -> bool:
        return self.stopped


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def turns(gate: RequestGate, clock: Clock, count: int) -> list[float]:
    times = []
    for _ in range(count):
        gate.pass_through(clock)  # type: ignore[arg-type]
        times.append(clock.now - 100)
    return times


def test_without_a_rate_no_request_waits(clock: Clock) -> None:
    assert turns(RequestGate(), clock, 3) == [0, 0, 0]


def test_requests_keep_the_rate(clock: Clock) -> None:
    gate = RequestGate(rate_per_minute=30)
    assert turns(gate, clock, 3) == [0, 2, 4]
    clock.now += 60  # a pause is not made up for by a burst
    assert turns(gate, clock, 2) == [64, 66]


def test_a_closed_gate_stops_every_request(clock: Clock) -> None:
    gate = RequestGate(rate_per_minute=60)
    gate.close(10)
    gate.close(3)
    assert turns(gate, clock, 2) == [10, 10]


def test_stopping_ends_the_wait() -> None:
    gate, stop = RequestGate(), threading.Event()
    gate.close(3600)
    stop.set()
    gate.pass_through(stop)


def test_backoff_doubles_up_to_a_minute_and_varies() -> None:
    for attempt, longest in ((0, 1), (1, 2), (5, 32), (6, MAX_BACKOFF_SECONDS), (60, 60)):
        times = [backoff_seconds(attempt, 1.0) for _ in range(50)]
        assert all(longest / 2 <= seconds <= longest for seconds in times)
        assert len(set(times)) > 1


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after_seconds("7") == 7
    assert retry_after_seconds("0.5") == 0.5
    assert retry_after_seconds("-3") == 0
    soon = datetime.now(timezone.utc) + timedelta(seconds=100)
    assert retry_after_seconds(format_datetime(soon, usegmt=True)) == pytest.approx(99, abs=2)
    past = soon - timedelta(days=1)
    assert retry_after_seconds(format_datetime(past, usegmt=True)) == 0
    for nothing in (None, "", "soon"):
        assert retry_after_seconds(nothing) is None
