"""Models on Ray: requests to a server as tasks, a vision-language model as an actor per GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

from gridctl.caption.failures import FinalError
from gridctl.caption.question import Answer, Answers, Describer, Question, Reply
from gridctl.caption.server import RequestGate
from gridctl.engine.actors import run_on_actors
from gridctl.engine.ray import Tasks, run_jobs
from gridctl.errors import GridctlError
from gridctl.profile import DEFAULT_VLM, Profile

_CORES_PER_REQUEST = 0.1  # a request waits; what costs is to prepare its pictures


@dataclass(frozen=True, kw_only=True)
class ServerOnRay:
    """A server, asked by a task per grid. `concurrency` and `rate` are of the whole cluster.

    `ask` is a describer for one request at a time, which goes to the workers with its key.
    A repeated request is not counted against the rate.
    """

    model: str
    ask: Describer
    concurrency: int
    rate: float | None
    address: str | None

    backend = "server"

    def describe(self, questions: Iterator[Question]) -> Answers:
        """Each question with its answer. Raises GridctlError if no request can work."""
        asked: dict[int, Question] = {}
        outcomes = run_jobs(
            self._in_turn(questions, asked),
            partial(_ask, self.ask),
            name=_name,
            tasks=Tasks(cores=_CORES_PER_REQUEST, limit=self.concurrency, cancel_seconds=0),
            address=self.address,
        )
        with closing(outcomes):
            for number, outcome in outcomes:
                if isinstance(outcome, FinalError):
                    raise outcome
                reply = GridctlError(outcome) if isinstance(outcome, str) else outcome
                yield asked.pop(number), reply

    def _in_turn(
        self, questions: Iterator[Question], asked: dict[int, Question]
    ) -> Iterator[Question]:
        gate, never = RequestGate(self.rate), threading.Event()
        for number, question in enumerate(questions):
            gate.pass_through(never)
            asked[number] = question
            yield question


@dataclass(frozen=True, kw_only=True)
class VlmOnRay:
    """A vision-language model that each actor loads once."""

    profile: Profile

    backend = "vlm"

    @property
    def model(self) -> str:
        return self.profile.caption.model or DEFAULT_VLM

    def describe(self, questions: Iterator[Question]) -> Answers:
        """Each question with its answer. Raises GridctlError if the model cannot be loaded."""
        settings = self.profile.caption
        results = run_on_actors(
            iter(lambda: list(islice(questions, settings.batch)), []),
            partial(_open_vlm, self.profile),
            address=settings.ray_address,
        )
        with closing(results):
            for batch, result in results:
                if isinstance(result, GridctlError):
                    yield from ((question, result) for question in batch)
                else:
                    yield from result


def _ask(
    server: Describer, question: Question, *, tick: Callable[[], None]
) -> Reply | GridctlError:
    """In a worker: one answer. A failure is a value here, so that its type is kept."""
    tick()
    try:
        ((_, reply),) = server.describe(iter([question]))
    except FinalError as error:
        return error
    return reply


def _open_vlm(profile: Profile) -> Callable[[list[Question]], list[Answer]]:
    from gridctl.caption.vlm import open_vlm

    model = open_vlm(profile)
    return lambda batch: list(model.describe(iter(batch)))


def _name(question: Question) -> str:
    return str(question.image)
