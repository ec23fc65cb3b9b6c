"""What a model is asked about a grid, and what it is shown."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image

from gridctl.errors import GridctlError, UsageError
from gridctl.media.facts import Facts
from gridctl.media.grid_image import load_grid, split
from gridctl.prompt import DEFAULT_QUESTION, VIEWS, View, check_question, question_prompt


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a model is asked: the prompt's template, and what it is shown.

    `view` is the whole grid, `keyframes` frames spread over the clip, or every frame as a
    picture of its own. Pictures are scaled down to `image_side` pixels on the longer side.

    Raises UsageError for a view or a field of the prompt that is unknown.
    """

    prompt: str = DEFAULT_QUESTION
    view: View = "grid"
    keyframes: int = 4
    image_side: int = 1536

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise UsageError(f"view {self.view!r} is unknown; choose {', '.join(VIEWS)}.")
        if self.keyframes < 1 or self.image_side < 16:
            raise UsageError(
                f"{self.keyframes} key frames of {self.image_side} pixels show nothing; "
                "choose at least 1 of 16."
            )
        check_question(self.prompt)

    def text(self, facts: Facts, *, layout: str, subject: str | None) -> str:
        """The question about a grid with these facts; `layout` is a layout's name or template."""
        return question_prompt(
            self.prompt,
            facts.grid,
            fps=facts.fps,
            frames=facts.num_frames,
            shown=len(self.picks(facts)),
            view=self.view,
            layout=layout,
            subject=subject,
        )

    def picks(self, facts: Facts) -> list[int]:
        """The frames that are shown one by one."""
        last = facts.num_frames - 1
        count = self.keyframes if self.view == "keyframes" else facts.num_frames
        places = np.linspace(0, last, min(count, facts.num_frames))
        return [int(place + 0.5) for place in places]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One grid, what is asked about it, and how it is shown."""

    image: Path
    facts: Facts
    text: str
    subject: str | None
    asking: Asking

    def pictures(self) -> list[Image.Image]:
        """What the model is shown, scaled down; InputError for a broken image."""
        pixels, facts = load_grid(self.image)
        if self.asking.view == "grid":
            pictures = [Image.fromarray(pixels)]
        else:
            frames = split(pixels, (facts or self.facts).grid)
            pictures = [Image.fromarray(frames[k]) for k in self.asking.picks(self.facts)]
        side = self.asking.image_side
        for picture in pictures:
            if max(picture.size) > side:
                picture.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
        return pictures

    def encoded(self) -> list[bytes]:
        """The same as JPEG files, without the facts: a server need not know file names.

        A grid that is a JPEG of the right size goes as it is: no time, and no loss.
        """
        size = self.facts.grid.image_size
        if self.asking.view == "grid" and max(size) <= self.asking.image_side:
            with suppress(OSError):  # decoding it below will say what is wrong
                bare = without_facts(self.image.read_bytes())
                if bare is not None and Image.open(io.BytesIO(bare)).size == size:
                    return [bare]
        files = []
        for picture in self.pictures():
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=90)
            files.append(file.getvalue())
        return files


def without_facts(jpeg: bytes) -> bytes | None:
    """A JPEG file less its metadata (APP1 to APP13 and comments), not decoded.

    None if it is not whole, or no plain JPEG: let whoever decodes it say what is wrong.
    Segments as in ITU-T T.81, annex B: FF, a code, a length that counts itself, the content.
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
    """A model's answer as it came; `finished` is False if its tokens ran out."""

    text: str
    finished: bool = True


# Closing it ends the asking.
Answers: TypeAlias = Generator[tuple[Question, Reply | GridctlError], None, None]


class Describer(Protocol):
    """A model that answers questions, each once, in any order.

    What fails for one grid is an answer too; what fails for all is raised. `questions` may
    be taken from several threads, but by one at a time.
    """

    @property
    def backend(self) -> str: ...

    @property
    def model(self) -> str: ...

    def describe(self, questions: Iterator[Question]) -> Answers: ...
