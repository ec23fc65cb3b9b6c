"""A question about a grid for a model: its text, its pictures, and the reply."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image

from gridctl.dataset.grid_image import load_grid, split
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError
from gridctl.profile import CaptionSection
from gridctl.prompt import question_prompt


@dataclass(frozen=True, kw_only=True)
class Question:
    """One grid, what is asked about it, and how it is shown.

    `settings` has the view (the whole grid, `keyframes` frames spread over the clip, or every
    frame as its own picture) and `image_side`, the longest side of a picture in pixels.
    """

    image: Path
    metadata: GridMetadata
    text: str
    subject: str | None
    settings: CaptionSection

    def pictures(self) -> list[Image.Image]:
        """The pictures for the model, scaled down; InputError for a broken image."""
        pixels, metadata = load_grid(self.image)
        if self.settings.view == "grid":
            pictures = [Image.fromarray(pixels)]
        else:
            frames = split(pixels, (metadata or self.metadata).grid)
            shown = shown_frames(self.metadata, self.settings)
            pictures = [Image.fromarray(frames[k]) for k in shown]
        side = self.settings.image_side
        for picture in pictures:
            if max(picture.size) > side:
                picture.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
        return pictures

    def encoded(self) -> list[bytes]:
        """The pictures as JPEG files, without the metadata: a server need not know file names.

        A JPEG grid that is small enough is sent as it is, which saves time and quality.
        """
        size = self.metadata.grid.image_size
        if self.settings.view == "grid" and max(size) <= self.settings.image_side:
            with suppress(OSError):  # decoding it below reports what is wrong
                bare = without_metadata(self.image.read_bytes())
                if bare is not None and Image.open(io.BytesIO(bare)).size == size:
                    return [bare]
        files = []
        for picture in self.pictures():
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=90)
            files.append(file.getvalue())
        return files


def make_question(
    image: Path, metadata: GridMetadata, settings: CaptionSection, *, subject: str | None
) -> Question:
    """The question about a grid image with these metadata."""
    text = question_prompt(
        settings.prompt,
        metadata.grid,
        fps=metadata.fps,
        frames=metadata.num_frames,
        shown=len(shown_frames(metadata, settings)),
        view=settings.view,
        layout=settings.layout,
        subject=subject,
    )
    return Question(image=image, metadata=metadata, text=text, subject=subject, settings=settings)


def shown_frames(metadata: GridMetadata, settings: CaptionSection) -> list[int]:
    """The frames that are shown one by one; padding is never shown."""
    count = settings.keyframes if settings.view == "keyframes" else metadata.num_frames
    places = np.linspace(0, metadata.num_frames - 1, min(count, metadata.num_frames))
    return [int(place + 0.5) for place in places]


def without_metadata(jpeg: bytes) -> bytes | None:
    """A JPEG file without its metadata (APP1 to APP13 and comments), not decoded.

    None if it is cut off or not a plain JPEG. Segments are as in ITU-T T.81, annex B: FF, a
    code, a length that counts itself, the content.
    """
    if not jpeg.startswith(b"\xff\xd8") or not jpeg.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    kept, at = [jpeg[:2]], 2
    while jpeg[at : at + 1] == b"\xff" and at + 4 <= len(jpeg):
        code, end = jpeg[at + 1], at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if code == 0xDA:  # the scan: the picture itself, to the end
            return b"".join([*kept, jpeg[at:]])
        if not 0xE1 <= code <= 0xED and code != 0xFE:
            kept.append(jpeg[at:end])
        at = end
    return None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A model's answer as it came; `finished` is False if it reached its token limit.

    `origin` says where the words are from, if they are not a model's.
    """

    text: str
    finished: bool = True
    origin: str | None = None


Answer: TypeAlias = "tuple[Question, Reply | GridctlError]"
Answers: TypeAlias = Generator[Answer, None, None]  # closing it ends the run


class Describer(Protocol):
    """A model that answers questions, each once, in any order.

    What fails for one grid is an answer, too. What fails for all grids is raised. Several
    threads may take from `questions`, one at a time.
    """

    @property
    def backend(self) -> str: ...

    @property
    def model(self) -> str: ...

    def describe(self, questions: Iterator[Question]) -> Answers: ...
