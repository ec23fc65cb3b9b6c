"""Caption: grid images → a caption .txt beside each, layout prompt first, content after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gridctl.caption.clean import clean_answer, cut
from gridctl.caption.content import ContentSource
from gridctl.caption.length import TextLimits
from gridctl.caption.question import Answers, Asking, Describer, Question, Reply
from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.files import write_text
from gridctl.media.batch import BatchResult, Failure
from gridctl.media.dataset import caption_path, list_grids, read_caption, write_metadata
from gridctl.media.grid_image import load_facts
from gridctl.media.provenance import note_provenance
from gridctl.progress import Progress, silent
from gridctl.prompt import DEFAULT_LAYOUT, layout_prompt, layout_template


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A caption that would be written, and what the model would be asked for it."""

    image: Path
    caption: str
    question: str | None


@dataclass(frozen=True, kw_only=True)
class CaptionResult(BatchResult):
    """What became of each grid.

    `shortened` are captions that were cut to what T5 reads, `unused` the mapping's keys that
    name no grid, `previews` what a dry run has instead of files.
    """

    shortened: tuple[Path, ...] = ()
    unused: tuple[str, ...] = ()
    previews: tuple[Preview, ...] = ()
    seconds: float = 0.0


def caption(
    sources: Sequence[Path],
    *,
    layout: str = DEFAULT_LAYOUT,
    subject: str | None = None,
    mapping: Mapping[str, str] | None = None,
    describer: Describer | Callable[[], Describer | None] | None = None,
    asking: Asking | None = None,
    limits: TextLimits | None = None,
    force: bool = False,
    dry_run: int = 0,
    progress: Progress | None = None,
) -> CaptionResult:
    """Write `vid1.txt` beside each `vid1.jpg` in `sources`, grid images or folders of them.

    `layout` is a layout's name or a template. The content is what `describer` answers when it
    is shown the grid as `asking` says; without one it is `mapping`'s, else the text that lay
    beside the clip when it was packed, else `subject`, else the words of the clip's name. A
    function that makes the describer is called only if there is something to ask.
    Captions that are there are kept. metadata.jsonl is made again in each folder. With
    `dry_run`, that many captions are made and none is written.

    Raises InputError if a folder holds no grid image or cannot be written, UsageError for a
    wrong layout or source, GridctlError if the model cannot be had; what is captioned by then
    is kept.
    """
    started = time.monotonic()
    work = _Work(
        template=layout_template(layout),
        layout=layout,
        source=ContentSource(mapping=mapping or {}, subject=subject),
        asking=asking or Asking(),
        limits=limits or TextLimits(),
    )
    jobs = _jobs(sources)
    todo = work.without_caption(jobs, force=force)
    if callable(describer):
        describer = describer() if todo else None
    work.asks = describer is not None
    if dry_run:
        todo = todo[:dry_run]
    progress = progress or silent
    written: list[Path] = []
    previews: list[Preview] = []
    already = len(work.skipped) + len(work.failed)
    answers = (describer or _Template(work.source)).describe(work.questions(todo))
    made_by = {
        "caption_backend": describer.backend if describer else "template",
        "caption_model": describer.model if describer else None,
    }
    try:
        progress(already, len(jobs), "")
        with closing(answers):  # whatever stops the run, no more is asked
            for question, reply in answers:
                made = work.compose(question, reply)
                if made is not None and dry_run:
                    asked = question.text if describer else None
                    previews.append(Preview(image=question.image, caption=made, question=asked))
                elif made is not None:
                    prompt = question.text if describer else work.template
                    note_provenance(question.image, made, {**made_by, "caption_prompt": prompt})
                    write_text(caption_path(question.image), made + "\n")
                    written.append(caption_path(question.image))
                done = len(written) + len(previews) + len(work.failed) + len(work.skipped)
                rate = (done - already) / max(1e-9, time.monotonic() - started)
                progress(done, len(jobs), f"{rate:.1f} grids/s  {question.image.name}")
    finally:
        if not dry_run:
            for folder in sorted({path.parent for path in (*written, *work.skipped)}):
                write_metadata(folder)
    place = {target: index for index, target in enumerate(jobs)}
    return CaptionResult(
        written=tuple(sorted(written, key=place.__getitem__)),
        skipped=tuple(work.skipped),
        failed=tuple(sorted(work.failed, key=lambda f: place[caption_path(f.path)])),
        shortened=tuple(sorted(work.shortened, key=place.__getitem__)),
        unused=() if dry_run or work.skipped else work.unused(),
        previews=tuple(sorted(previews, key=lambda p: place[caption_path(p.image)])),
        seconds=time.monotonic() - started,
    )


def _jobs(sources: Sequence[Path]) -> dict[Path, Path]:
    """Caption → grid image; a caption that two images share is the first one's."""
    jobs: dict[Path, Path] = {}
    for source in sources:
        if source.is_file() and source.suffix.lower() in (
            ".txt",
            ".jsonl",
        ):  # a .txt would pass for its own caption
            raise UsageError(f"{source} is no grid image; name the image, or its folder.")
        for image in list_grids(source) if source.is_dir() else [source]:
            jobs.setdefault(caption_path(image), image)
    return jobs


class _Template:
    """The backend without a model: it answers with the words that are there."""

    backend, model = "template", ""

    def __init__(self, source: ContentSource) -> None:
        self._source = source

    def describe(self, questions: Iterator[Question]) -> Answers:
        for question in questions:
            try:
                yield question, Reply(text=self._source.content(question.image, question.facts))
            except GridctlError as error:
                yield question, error


class _Work:
    """From images to questions, and from answers to captions; counts what fails on the way."""

    def __init__(
        self,
        *,
        template: str,
        layout: str,
        source: ContentSource,
        asking: Asking,
        limits: TextLimits,
    ) -> None:
        self.template, self.layout, self.source = template, layout, source
        self.asking, self.limits = asking, limits
        self.asks = False  # whether a model is asked
        self.skipped: list[Path] = []
        self.failed: list[Failure] = []
        self.shortened: list[Path] = []
        self._used: set[str] = set()

    def without_caption(self, jobs: Mapping[Path, Path], *, force: bool) -> list[Path]:
        """The images that need one; the others are skipped, or failed."""
        todo: list[Path] = []
        for target, image in jobs.items():
            try:
                if not image.exists():  # told before a model is loaded for it
                    raise InputError(f"{image} does not exist; check the name.")
                if not force and read_caption(image):
                    self.skipped.append(target)
                else:
                    todo.append(image)
            except GridctlError as error:
                self._fail(image, error)
        return todo

    def questions(self, images: Sequence[Path]) -> Iterator[Question]:
        for image in images:
            try:
                facts = load_facts(image)
                if facts is None:
                    raise InputError(
                        f"{image} has no gridctl facts, so its grid is unknown; "
                        "pack its clip again."
                    )
            except GridctlError as error:
                self._fail(image, error)
                continue
            self._used |= self.source.keys_of(image, facts)
            subject = self.source.known_subject(image, facts) if self.asks else None
            text = self.asking.text(facts, layout=self.layout, subject=subject)
            yield Question(image=image, facts=facts, text=text, subject=subject, asking=self.asking)

    def compose(self, question: Question, reply: Reply | GridctlError) -> str | None:
        """The caption of an answer; None, and a failure, if there is none."""
        try:
            if isinstance(reply, GridctlError):
                raise reply
            return self._caption(question, reply)
        except GridctlError as error:
            self._fail(question.image, error)
            return None

    def unused(self) -> tuple[str, ...]:
        return tuple(name for name in self.source.mapping if name not in self._used)

    def _caption(self, question: Question, reply: Reply) -> str:
        facts, limits = question.facts, self.limits
        opening = layout_prompt(facts.grid, self.template, fps=facts.fps)
        if self.asks:
            content = clean_answer(reply.text, finished=reply.finished)
        else:
            content = " ".join(reply.text.split())
        if question.subject:
            # CLIP reads the first 77 tokens: the subject belongs into them.
            lead = f"{opening} {question.subject.rstrip('.')}."
            if not limits.fits_clip(lead):
                raise GridctlError(
                    f"layout and subject are more than the {limits.clip_tokens} tokens that CLIP "
                    "reads; shorten the layout prompt or the subject."
                )
            read = cut(content, lambda text: limits.fits_clip(f"{opening} {text}"))
            if question.subject.rstrip(".").casefold() not in read.casefold():
                content = f"{question.subject.rstrip('.')}. {content}"
        elif not limits.fits_clip(opening):
            raise GridctlError(
                f"the layout prompt alone is more than the {limits.clip_tokens} tokens that CLIP "
                "reads; shorten it."
            )
        kept = cut(content, lambda text: limits.fits_t5(f"{opening} {text}".strip()))
        if not kept:
            raise GridctlError(
                f"the layout prompt leaves no room in T5's {limits.t5_tokens} tokens; shorten it."
            )
        if kept != content:
            self.shortened.append(caption_path(question.image))
        return f"{opening} {kept}".strip()

    def _fail(self, image: Path, error: GridctlError) -> None:
        reason = str(error)
        if str(image) not in reason:
            reason = f"{image}: {reason}"
        self.failed.append(Failure(path=image, reason=reason))
