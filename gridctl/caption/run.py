"""Caption: a .txt beside each grid image, layout prompt first, content after."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gridctl.caption.backends import open_describer
from gridctl.caption.clean import clean_answer, cut
from gridctl.caption.content import ContentSource, read_mapping
from gridctl.caption.length import TextLimits, text_limits
from gridctl.caption.question import Answers, Describer, Question, Reply, make_question
from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.files import write_text
from gridctl.media.batch import BatchResult, Failure
from gridctl.media.dataset import caption_path, list_grids, read_caption, write_metadata
from gridctl.media.grid_image import load_facts
from gridctl.media.provenance import note_provenance
from gridctl.profile import CaptionSection, Profile
from gridctl.progress import Progress, silent
from gridctl.prompt import layout_prompt, layout_template

PREVIEWS = 3  # captions that a dry run makes


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A caption that would be written, and the question for the model, if there is one."""

    image: Path
    caption: str
    question: str | None


@dataclass(frozen=True, kw_only=True)
class CaptionResult(BatchResult):
    """What happened to each grid.

    `shortened` are captions that were cut to the `t5_tokens` that T5 reads, `unused` names of
    the mapping that match no grid, `previews` what a dry run has instead of files.
    """

    t5_tokens: int
    shortened: tuple[Path, ...] = ()
    unused: tuple[str, ...] = ()
    previews: tuple[Preview, ...] = ()
    seconds: float = 0.0


def caption(
    sources: Sequence[Path],
    profile: Profile | None = None,
    *,
    describer: Describer | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CaptionResult:
    """Write `vid1.txt` beside each `vid1.jpg` in `sources`, grid images or folders of them.

    `profile.caption` says how. Its backend writes the content: the template takes it from the
    mapping, else from the text that lay beside the clip when it was packed, else from the
    subject, else from the words of the clip's name. A model describes what it sees; it is
    loaded only if a grid needs a caption. `describer` is a model to use instead.
    Existing captions are kept unless `force`. metadata.jsonl is rewritten in each folder.
    With `dry_run`, a few captions are made and none is written.

    Raises InputError if a folder holds no grid image, cannot be written, or the mapping cannot
    be read, UsageError for a wrong source or profile, GridctlError if the model cannot be
    loaded or reached. Captions written before an error are kept.
    """
    started = time.monotonic()
    profile = profile or Profile()
    settings = profile.caption
    captioner = _Captioner(settings, text_limits(profile))
    images = _images(sources)
    todo = captioner.without_caption(images, force=force)
    if describer is None and todo:
        describer = open_describer(profile)
    captioner.asks = describer is not None
    if dry_run:
        todo = todo[:PREVIEWS]
    progress = progress or silent
    written: list[Path] = []
    previews: list[Preview] = []
    already = len(captioner.skipped) + len(captioner.failed)
    answers = (describer or _Template(captioner.source)).describe(captioner.questions(todo))
    made_by = {
        "caption_backend": describer.backend if describer else "template",
        "caption_model": describer.model if describer else None,
    }
    try:
        progress(already, len(images), "")
        with closing(answers):  # whatever stops the run, nothing more is asked
            for question, reply in answers:
                text = captioner.compose(question, reply)
                if text is not None and dry_run:
                    asked = question.text if describer else None
                    previews.append(Preview(image=question.image, caption=text, question=asked))
                elif text is not None:
                    prompt = question.text if describer else captioner.template
                    note_provenance(question.image, text, {**made_by, "caption_prompt": prompt})
                    write_text(caption_path(question.image), text + "\n")
                    written.append(caption_path(question.image))
                failed, skipped = len(captioner.failed), len(captioner.skipped)
                done = len(written) + len(previews) + failed + skipped
                rate = (done - already) / max(1e-9, time.monotonic() - started)
                progress(done, len(images), f"{rate:.1f} grids/s  {question.image.name}")
    finally:
        if not dry_run:
            for folder in sorted({path.parent for path in (*written, *captioner.skipped)}):
                write_metadata(folder)
    place = {target: index for index, target in enumerate(images)}
    return CaptionResult(
        written=tuple(sorted(written, key=place.__getitem__)),
        skipped=tuple(captioner.skipped),
        failed=tuple(sorted(captioner.failed, key=lambda f: place[caption_path(f.path)])),
        t5_tokens=captioner.limits.t5_tokens,
        shortened=tuple(sorted(captioner.shortened, key=place.__getitem__)),
        unused=() if dry_run or captioner.skipped else captioner.unused(),
        previews=tuple(sorted(previews, key=lambda p: place[caption_path(p.image)])),
        seconds=time.monotonic() - started,
    )


def _images(sources: Sequence[Path]) -> dict[Path, Path]:
    """Caption → grid image. If two images share a caption, the first one gets it."""
    images: dict[Path, Path] = {}
    for source in sources:
        if source.is_file() and source.suffix.lower() in (".txt", ".jsonl"):
            raise UsageError(f"{source} is no grid image; name the image, or its folder.")
        for image in list_grids(source) if source.is_dir() else [source]:
            images.setdefault(caption_path(image), image)
    return images


class _Template:
    """The backend without a model: it answers with existing words."""

    backend, model = "template", ""

    def __init__(self, source: ContentSource) -> None:
        self._source = source

    def describe(self, questions: Iterator[Question]) -> Answers:
        for question in questions:
            try:
                yield question, Reply(text=self._source.content(question.image, question.facts))
            except GridctlError as error:
                yield question, error


class _Captioner:
    """From images to questions, and from answers to captions; collects failures on the way."""

    def __init__(self, settings: CaptionSection, limits: TextLimits) -> None:
        self.settings, self.limits = settings, limits
        self.template = layout_template(settings.layout)
        mapping = read_mapping(settings.mapping) if settings.mapping else {}
        self.source = ContentSource(mapping=mapping, subject=settings.subject)
        self.asks = False  # whether there is a model to ask
        self.skipped: list[Path] = []
        self.failed: list[Failure] = []
        self.shortened: list[Path] = []
        self._used: set[str] = set()

    def without_caption(self, images: Mapping[Path, Path], *, force: bool) -> list[Path]:
        """The images that need a caption; the others are counted as skipped or failed."""
        todo: list[Path] = []
        for target, image in images.items():
            try:
                if not image.exists():  # found out before a model is loaded
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
            yield make_question(image, facts, self.settings, subject=subject)

    def compose(self, question: Question, reply: Reply | GridctlError) -> str | None:
        """The caption of an answer; None if the answer failed, which is then recorded."""
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
            content = self._with_subject(content, opening, question.subject.rstrip("."))
        elif not limits.fits_clip(opening):
            raise GridctlError(
                f"the layout prompt alone exceeds the {limits.clip_tokens} tokens that CLIP "
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

    def _with_subject(self, content: str, opening: str, subject: str) -> str:
        """`content` with the subject where CLIP, which reads only 77 tokens, still sees it."""
        limits = self.limits
        if not limits.fits_clip(f"{opening} {subject}."):
            raise GridctlError(
                f"layout prompt and subject exceed the {limits.clip_tokens} tokens that CLIP "
                "reads; shorten one of them."
            )
        read = cut(content, lambda text: limits.fits_clip(f"{opening} {text}"))
        is_there = subject.casefold() in read.casefold()
        return content if is_there else f"{subject}. {content}"

    def _fail(self, image: Path, error: GridctlError) -> None:
        reason = str(error)
        if str(image) not in reason:
            reason = f"{image}: {reason}"
        self.failed.append(Failure(path=image, reason=reason))
