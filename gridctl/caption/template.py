"""The backend `template`: it needs no model and answers with existing words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import TypeAlias

from gridctl.caption.content import ContentSource, NoContentError
from gridctl.caption.question import Answers, Question, Reply
from gridctl.dataset.captions import FEWEST_CLIPS, NEARLY_ALL
from gridctl.errors import GridctlError, InputError, counted

_JUDGED = 1000  # grids that are looked at before the first caption is written
_REMEDY = (
    "use --mapping, a model (--backend vlm or --server), or --subject if one sentence fits all "
    "clips."
)

_Answer: TypeAlias = tuple[Question, Reply | GridctlError]


class TemplateDescriber:
    """Answers with what `source` finds: a mapping, a clip's text, the subject or its name."""

    backend, model = "template", ""

    def __init__(self, source: ContentSource) -> None:
        self._source = source

    def describe(self, questions: Iterator[Question]) -> Answers:
        """Each question with its answer, in order.

        Raises InputError if the clips' names are all that there is, and nearly all of them say
        nothing or the same.
        """
        first = [self._answer(question) for question in islice(questions, _JUDGED)]
        _refuse_empty_names(first)
        _refuse_equal_names(first)
        yield from first
        for question in questions:
            yield self._answer(question)

    def _answer(self, question: Question) -> _Answer:
        try:
            content = self._source.content(question.image, question.metadata)
        except GridctlError as error:
            return question, error
        return question, Reply(text=content.words, origin=content.origin)


def _refuse_empty_names(answers: Sequence[_Answer]) -> None:
    clips = {q.metadata.source for q, reply in answers if isinstance(reply, NoContentError)}
    if len(clips) < FEWEST_CLIPS or len(clips) < len({q.metadata.source for q, _ in answers}):
        return
    name = PurePosixPath(min(clips)).name
    raise InputError(
        f"the names of all {len(clips)} clips, such as {name}, do not say what they show; {_REMEDY}"
    )


def _refuse_equal_names(answers: Sequence[_Answer]) -> None:
    named = {
        question.metadata.source: reply.text
        for question, reply in answers
        if isinstance(reply, Reply) and reply.origin == "name"
    }
    if len(named) < FEWEST_CLIPS:
        return
    words, count = Counter(named.values()).most_common(1)[0]
    clips = len({question.metadata.source for question, _ in answers})
    if count >= NEARLY_ALL * clips:
        raise InputError(
            f'the names of {count} of {counted(clips, "clip")} give the same content "{words}"; '
            f"{_REMEDY}"
        )
