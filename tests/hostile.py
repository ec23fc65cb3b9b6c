"""Text that makes careless patterns take very long, and a limit on the work of a block."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import strategies as st

LENGTH = 100_000


def hostile_texts(parts: Sequence[str]) -> st.SearchStrategy[str]:
    """100 kB of one to three of `parts` again and again, with one of them before and after."""
    end = st.sampled_from(["", *parts])
    repeated = st.lists(st.sampled_from(parts), min_size=1, max_size=3).map("".join)
    return st.builds(
        lambda first, part, last: first + part * (LENGTH // len(part)) + last, end, repeated, end
    )


@contextmanager
def no_hang(processor_seconds: float = 20.0) -> Iterator[None]:
    """Fail a block that computes for so long. Other processes do not count, so no test is flaky.

    The work in it takes a fraction of a second, and hours if it grows with a power of the length.
    """

    def stop(*_: object) -> None:
        raise AssertionError(f"this takes more than {processor_seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, processor_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
