"""Caption: a .txt beside each grid image, layout prompt first, content after."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from gridctl.caption.check import check_images
from gridctl.caption.clean import clean_answer, cut, shorten
from gridctl.caption.content import (
    ContentSource,
    TemplateDescriber,
    read_mapping,
    refuse_foreign_mapping,
)
from gridctl.caption.question import Describer, Question, Reply, make_question
from gridctl.dataset.captions import Captioned, says_nothing
from gridctl.dataset.folder import (
    caption_path,
    list_grids,
    note_provenance,
    read_caption,
    write_metadata,
)
from gridctl.dataset.grid_image import load_metadata
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError, InputError, UsageError, counted
from gridctl.files import write_text
from gridctl.models.family import TextLimits, TokenLimit
from gridctl.models.hub import text_limits
from gridctl.profile import CaptionSection, Profile
from gridctl.progress import Failure, FilesResult, Progress, silent
from gridctl.prompt import layout_prompt, layout_template
from gridctl.storage import Url, map_paths
from gridctl.text import is_encodable

PREVIEWS = 3  # captions that a dry run makes
# Flags that only some backends use.
_USED_BY = {
    "model": ("vlm", "server"),
    "view": ("vlm", "server"),
    "prompt": ("vlm", "server"),
    "server": ("server",),
    "concurrency": ("server",),
    "rate": ("server",),
    "engine": ("vlm", "server"),
    "ray_address": ("vlm", "server"),
}


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A caption that would be written, and the question for the model, if there is one."""

    image: Path
    caption: str
    question: str | None


@dataclass(frozen=True, kw_only=True)
class CaptionResult(FilesResult):
    """The outcome for each grid; `notes` has the faults that a check of all captions found.

    `shortened` are captions that were cut to the `limit` of the text encoder, `unused` the names
    in the mapping that match no grid, `previews` the captions of a dry run, which writes none.
    """

    limit: TokenLimit
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

    Raises InputError if a folder holds no grid image or cannot be written, if the mapping cannot
    be read or names no grid, or if content would come from names that say nothing or the same,
    UsageError for a wrong source or profile, GridctlError if the model cannot be loaded or
    reached. Captions written before an error are kept.
    """
    started = time.monotonic()
    for source in sources:
        if isinstance(source, Url) and not dry_run:
            source.refuse_unwritable()
    profile = profile or Profile()
    settings = profile.caption
    captioner = _Captioner(settings, text_limits(profile))
    images = _images(sources)
    todo = captioner.without_caption(images, force=force)
    captioner.refuse_foreign_mapping(list(dict.fromkeys([*todo, *images.values()])))
    if describer is None and todo:
        describer = open_describer(profile)
    captioner.asks = describer is not None
    if dry_run:
        todo = todo[:PREVIEWS]
    progress = progress or silent
    written: list[Path] = []
    known: dict[Path, Captioned] = {}
    previews: list[Preview] = []
    already = len(captioner.skipped) + len(captioner.failed)
    writer = describer or TemplateDescriber(captioner.source)
    answers = writer.describe(captioner.questions(todo))
    try:
        progress(already, len(images), "")
        with closing(answers):  # whatever stops the run, nothing more is asked
            for question, reply in answers:
                text = captioner.compose(question, reply)
                if text is not None and dry_run:
                    asked = question.text if describer else None
                    previews.append(Preview(image=question.image, caption=text, question=asked))
                elif text is not None:
                    made_by = {
                        "caption_backend": writer.backend,
                        "caption_model": writer.model or None,
                        "caption_prompt": question.text if describer else captioner.template,
                    }
                    if isinstance(reply, Reply) and reply.origin:
                        made_by["caption_content"] = reply.origin
                    note_provenance(question.image, text, made_by)
                    # Existing words can be taken again; an answer of a model cost something.
                    durable = describer is not None
                    write_text(caption_path(question.image), text + "\n", durable=durable)
                    known[question.image] = Captioned(
                        image=question.image, text=text, source=question.metadata.source
                    )
                    written.append(caption_path(question.image))
                failed, skipped = len(captioner.failed), len(captioner.skipped)
                done = len(written) + len(previews) + failed + skipped
                rate = (done - already) / max(1e-9, time.monotonic() - started)
                progress(done, len(images), f"{rate:.1f} grids/s  {question.image.name}")
    finally:
        if not dry_run:
            for folder in sorted({path.parent for path in (*written, *captioner.skipped)}):
                write_metadata(folder)
    notes = captioner.notes()
    if not dry_run:
        there = {*written, *captioner.skipped}
        captioned = [image for path, image in images.items() if path in there]
        found = check_images(captioned, profile, known=known).findings
        notes += [f"{finding.path}: {finding.fault}".rstrip(".") for finding in found]
    place = {target: index for index, target in enumerate(images)}
    return CaptionResult(
        written=tuple(sorted(written, key=place.__getitem__)),
        skipped=tuple(captioner.skipped),
        failed=tuple(sorted(captioner.failed, key=lambda f: place[caption_path(f.path)])),
        notes=tuple(notes),
        limit=captioner.limits.whole,
        shortened=tuple(sorted(captioner.shortened, key=place.__getitem__)),
        unused=() if dry_run or captioner.skipped else captioner.unused(),
        previews=tuple(sorted(previews, key=lambda p: place[caption_path(p.image)])),
        seconds=time.monotonic() - started,
    )


def apply_flags(profile: Profile) -> Profile:
    """The profile with the backend that its flags are for: --server implies the server's.

    Raises UsageError for a flag that the backend does not use. A profile may hold settings for
    several backends, but a flag is meant for this run.
    """
    if profile.is_flag("caption.server") and not profile.is_flag("caption.backend"):
        profile = profile.with_values({"caption.backend": "server"})
    backend = profile.caption.backend
    for name, users in _USED_BY.items():
        if profile.is_flag(f"caption.{name}") and backend not in users:
            others = " or ".join(f"--backend {user}" for user in users)
            raise UsageError(
                f"the backend {backend} does not use --{name}; add {others}, or leave it out."
            )
    return profile


def open_describer(profile: Profile) -> Describer | None:
    """The profile's model; None for the backend template, which needs none.

    The server's key is read from the environment only. Raises UsageError if the profile
    does not say enough, GridctlError if the model cannot be loaded or reached.
    """
    settings = profile.caption
    if settings.backend == "template":
        return None
    on_ray = settings.engine == "ray"
    if settings.backend == "vlm" and on_ray:
        from gridctl.caption.on_ray import VlmOnRay

        return VlmOnRay(profile=profile)
    if settings.backend == "vlm":
        from gridctl.caption.vlm import open_vlm

        return open_vlm(profile)
    if settings.server is None:
        raise UsageError(
            "the backend server needs an address; add --server URL, such as "
            "http://localhost:8000/v1."
        )
    from gridctl.caption.server import ServerDescriber, only_model

    key = _server_key(settings.key_variable)
    model = settings.model or only_model(settings.server, key=key)
    if not on_ray:
        return ServerDescriber(settings=settings, model=model, key=key)
    from gridctl.caption.on_ray import ServerOnRay

    alone = replace(settings, concurrency=1, rate=None)
    return ServerOnRay(
        model=model,
        ask=ServerDescriber(settings=alone, model=model, key=key),
        concurrency=settings.concurrency,
        rate=settings.rate,
        address=settings.ray_address,
    )


def _server_key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip() or None
    if key and not (key.isascii() and key.isprintable()):  # an HTTP header cannot hold it
        raise UsageError(
            f"the key in ${variable} has line breaks or characters that no key has; copy it again."
        )
    return key


def _images(sources: Sequence[Path]) -> dict[Path, Path]:
    """Caption → grid image. If two images share a caption, the first one gets it."""
    images: dict[Path, Path] = {}
    for source in sources:
        if source.is_file() and source.suffix.lower() in (".txt", ".jsonl"):
            raise UsageError(f"{source} is not a grid image; name the image, or its folder.")
        for image in list_grids(source) if source.is_dir() else [source]:
            images.setdefault(caption_path(image), image)
    return images


def _metadata(image: Path) -> GridMetadata | GridctlError:
    try:
        metadata = load_metadata(image)
    except GridctlError as error:
        return error
    return metadata or InputError(
        f"{image} has no gridctl metadata, so its grid is unknown; pack its clip again."
    )


class _Captioner:
    """From images to questions, and from answers to captions; collects failures on the way."""

    def __init__(self, settings: CaptionSection, limits: TextLimits) -> None:
        self.settings, self.limits = settings, limits
        self.template = layout_template(settings.layout)
        if settings.subject is not None and says_nothing(settings.subject):
            raise UsageError(
                f'the subject "{settings.subject}" does not say what a clip shows; describe it.'
            )
        mapping = read_mapping(settings.mapping) if settings.mapping else {}
        self.source = ContentSource(mapping=mapping, subject=settings.subject)
        self.asks = False  # whether there is a model to ask
        self.skipped: list[Path] = []
        self.failed: list[Failure] = []
        self.shortened: list[Path] = []
        self._used: set[str] = set()
        self._unmapped: list[Path] = []

    def without_caption(self, images: Mapping[Path, Path], *, force: bool) -> list[Path]:
        """The images that need a caption; the others are counted as skipped or failed."""
        todo: list[Path] = []

        def has_caption(image: Path) -> bool | GridctlError:
            try:
                if not image.exists():  # found out before a model is loaded
                    raise InputError(f"{image} does not exist; check the name.")
                if not is_encodable(image.name):  # no metadata.jsonl can hold it
                    raise InputError(f"{image} has a name that is not UTF-8; rename it.")
                return not force and read_caption(image) is not None
            except GridctlError as error:
                return error

        found = map_paths(has_caption, list(images.values()))
        for (target, image), captioned in zip(images.items(), found, strict=True):
            if isinstance(captioned, GridctlError):
                self._fail(image, captioned)
            elif captioned:
                self.skipped.append(target)
            else:
                todo.append(image)
        return todo

    def questions(self, images: Sequence[Path]) -> Iterator[Question]:
        for image, metadata in zip(images, map_paths(_metadata, images), strict=True):
            if isinstance(metadata, GridctlError):
                self._fail(image, metadata)
                continue
            keys = self.source.keys_of(image, metadata)
            self._used |= keys
            if not keys:
                self._unmapped.append(image)
            subject = self.source.known_subject(image, metadata) if self.asks else None
            yield make_question(image, metadata, self.settings, subject=subject)

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

    def notes(self) -> list[str]:
        """Notes on the mapping."""
        if not self.source.mapping or not self._unmapped:
            return []
        grids = counted(len(self._unmapped), "grid")
        return [f"{grids} not in the mapping, such as {self._unmapped[0]}"]

    def refuse_foreign_mapping(self, images: Sequence[Path]) -> None:
        """Raise InputError if there is a mapping and it names none of `images`."""
        if self.settings.mapping:
            loaded = zip(images, map_paths(_metadata, images), strict=True)
            # What is wrong with the others is reported with their captions.
            grids = ((image, found) for image, found in loaded if isinstance(found, GridMetadata))
            refuse_foreign_mapping(self.source, self.settings.mapping, grids)

    def _caption(self, question: Question, reply: Reply) -> str:
        metadata, limits = question.metadata, self.limits
        opening = layout_prompt(metadata.grid, self.template, fps=metadata.fps)
        if self.asks:
            content = clean_answer(reply.text, finished=reply.finished)
            if says_nothing(content):
                raise GridctlError(
                    f'the model\'s answer "{shorten(content, 80)}" does not say what it shows; '
                    "try another prompt or model."
                )
        else:
            content = " ".join(reply.text.split())
        if question.subject:
            content = self._with_subject(content, opening, question.subject.rstrip("."))
        elif not limits.opening.fits(opening):
            raise GridctlError(f"the layout prompt alone exceeds the {limits.opening}; shorten it.")
        kept = cut(content, lambda text: limits.whole.fits(f"{opening} {text}".strip()))
        if not kept:
            raise GridctlError(
                f"the layout prompt leaves no room in the {limits.whole}; shorten it."
            )
        if kept != content:
            self.shortened.append(caption_path(question.image))
        return f"{opening} {kept}".strip()

    def _with_subject(self, content: str, opening: str, subject: str) -> str:
        """`content` with the subject where every text encoder reads it."""
        limit = self.limits.opening
        if not limit.fits(f"{opening} {subject}."):
            raise GridctlError(
                f"layout prompt and subject exceed the {limit}; shorten one of them."
            )
        read = cut(content, lambda text: limit.fits(f"{opening} {text}"))
        is_there = subject.casefold() in read.casefold()
        return content if is_there else f"{subject}. {content}"

    def _fail(self, image: Path, error: GridctlError) -> None:
        reason = str(error)
        if str(image) not in reason:
            reason = f"{image}: {reason}"
        self.failed.append(Failure(path=image, reason=reason))
