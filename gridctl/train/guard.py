"""What keeps a run from going wrong unseen: explosions, faults in saving, and signals."""

from __future__ import annotations

import math
import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gridctl.errors import InputError
from gridctl.train.setup import Note, Run
from gridctl.train.state import NotFiniteError, last_checkpoint, save_run

_EXPLODED = 3.0  # times the loss at the start, and above _USELESS
_USELESS = 1.0  # noise has unit variance, so predicting no velocity at all costs more
_COMPARED = 5  # logged steps whose mean is looked at


class LossGuard:
    """Watches logged losses for one that is not finite, or far above where the run began."""

    def __init__(self) -> None:
        self._losses: list[float] = []

    def check(self, run: Run, entry: dict[str, Any]) -> None:
        """Raise NotFiniteError, which names the last good checkpoint, if the run went wrong."""
        if problem := self._problem(entry):
            raise NotFiniteError(_advice(run, problem))

    def _problem(self, entry: dict[str, Any]) -> str | None:
        step = entry["step"]
        if not all(math.isfinite(entry[key]) for key in ("loss", "grad_norm")):
            return f"the loss or its gradient is not a finite number at step {step}"
        self._losses.append(entry["base"])
        if len(self._losses) <= _COMPARED:
            return None
        first = self._losses[0]
        last = statistics.fmean(self._losses[-_COMPARED:])
        if last <= max(_USELESS, _EXPLODED * first):
            return None
        return f"the loss exploded from {first:.3g} to {last:.3g} by step {step}"


def save_or_note(run: Run, step: int, *, note: Note, must: bool) -> None:
    """Write a checkpoint. A full disk ends the run only if the checkpoint `must` be written."""
    try:
        save_run(run, step)
    except NotFiniteError as error:
        raise NotFiniteError(_advice(run, str(error))) from None
    except InputError as error:
        last = last_checkpoint(run.setup.folder)
        if must:
            raise InputError(f"{error} Step {step} is not saved; {last}.") from error
        note(f"{error} The run goes on and tries again at the next checkpoint; {last}.")


def _advice(run: Run, problem: str) -> str:
    return (
        f"{problem}; {last_checkpoint(run.setup.folder)}. Lower train.learning_rate in a new run "
        "(-o); --export STEP turns a good checkpoint into an adapter to --start from."
    )


@contextmanager
def stop_on_signal(note: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield a question: has SIGINT or SIGTERM come? A second signal acts at once, as usual."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def catch(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(number, previous[number])
        with suppress(RuntimeError):  # it came in the middle of another line
            note("stopping after this step; another signal stops at once")

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            previous[number] = signal.signal(number, catch)
    except ValueError:  # not the main thread, as in some notebooks: nothing to catch
        pass
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
