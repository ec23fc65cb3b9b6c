import random
import time

import pytest

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


def test_a_gate_that_is_closed_later_stops_those_who_wait(clock: Clock) -> None:
    gate = RequestGate(rate_per_minute=6)
    gate.pass_through(clock)  # type: ignore[arg-type]
    waited: list[float] = []

    def wait(seconds: float) -> None:
        if not waited:
            gate.close(25)
        waited.append(seconds)
        clock.now += seconds

    clock.wait = wait  # type: ignore[method-assign]
    assert turns(gate, clock, 1) == [25]
    assert waited == [10, 15]


def test_stopping_ends_the_wait(clock: Clock) -> None:
    gate = RequestGate(rate_per_minute=1)
    gate.close(3600)
    waited: list[float] = []

    def stop(seconds: float) -> None:
        waited.append(seconds)
        clock.stopped = True

    clock.wait = stop  # type: ignore[method-assign]
    assert turns(gate, clock, 2) == [0, 0]
    assert waited == [3600]  # the second one does not begin to wait


def test_backoff_doubles_up_to_a_minute_and_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    for share in (0.5, 1.0):
        monkeypatch.setattr(random, "uniform", lambda low, high, share=share: share)
        waits = [backoff_seconds(attempt, 3.0) / share for attempt in (0, 1, 2, 4, 5, 60)]
        assert waits == [3, 6, 12, 48, MAX_BACKOFF_SECONDS, 60]
    monkeypatch.undo()
    waits = [backoff_seconds(1, 1.0) for _ in range(50)]
    assert all(1 <= seconds <= 2 for seconds in waits)
    assert len(set(waits)) > 1
