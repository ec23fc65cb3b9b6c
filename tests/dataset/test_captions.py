from pathlib import Path

import numpy as np
import pytest

from gridctl.dataset.captions import Captioned, content_of, layout_patterns, refuse_useless_captions
from gridctl.dataset.folder import note_provenance
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.prompt import LAYOUTS, grid_prompt

GRID = Grid(rows=1, cols=1, cell=(16, 16))


def grids(
    folder: Path, contents: list[str], origin: str | None = None, backend: str = "template"
) -> list[Captioned]:
    """A grid per content, each of its own clip; `origin` is recorded as where it is from."""
    found = []
    for number, content in enumerate(contents):
        image = folder / f"vid{number}.png"
        metadata = GridMetadata(
            grid=GRID, source=f"clip {number}", times_seconds=(0.0,), fps=1.0, num_frames=1
        )
        save_grid(np.zeros((16, 16, 3), np.uint8), image, metadata)
        text = grid_prompt(GRID, content)
        if origin or backend != "template":
            note_provenance(image, text, {"caption_backend": backend, "caption_content": origin})
        found.append(Captioned(image=image, text=text, metadata=metadata))
    return found


@pytest.mark.parametrize("content", ["IMG", "clip 0001", "", "a video", "A cat.\nVID_2024"])
def test_captions_that_say_nothing_are_refused(tmp_path: Path, content: str) -> None:
    found = grids(tmp_path, ["a cat sits", "a dog runs"])
    last = Captioned(image=tmp_path / "vid9.png", text=grid_prompt(GRID, ""), metadata=None)
    if content:
        last = Captioned(image=last.image, text=content, metadata=None)
    with pytest.raises(InputError, match=r"1 caption of 3 grids do not say .*vid9\.png"):
        refuse_useless_captions([*found, last], layout="video")
    refuse_useless_captions(found, layout="video")


@pytest.mark.parametrize(
    ("content", "origin", "backend"),
    [
        ("beach", None, "template"),  # written by another tool, or by hand
        ("beach holiday at the sea", "name", "template"),
        ("The picture holds 24 frames of a clip.", None, "server"),
    ],
)
def test_the_same_content_for_nearly_all_clips_is_refused(
    tmp_path: Path, content: str, origin: str | None, backend: str
) -> None:
    found = grids(tmp_path, [content] * 9 + ["a dog runs"], origin, backend)
    with pytest.raises(InputError, match="9 of 10 clips have the same content"):
        refuse_useless_captions(found, layout="video")
    refuse_useless_captions(found[:3], layout="video")
    different = grids(tmp_path / "b", [content] * 8 + ["a dog runs", "a cat"], origin, backend)
    refuse_useless_captions(different, layout="video")


@pytest.mark.parametrize(
    ("content", "origin"),
    [("corgi", "subject"), ("corgi", "mapping"), ("corgi", "text"), ("a corgi runs", None)],
)
def test_the_same_content_is_right_if_somebody_chose_it(
    tmp_path: Path, content: str, origin: str | None
) -> None:
    refuse_useless_captions(grids(tmp_path, [content] * 12, origin), layout="video")


def test_the_grids_of_one_clip_may_share_their_caption(tmp_path: Path) -> None:
    found = grids(tmp_path, ["bear"], "name")
    refuse_useless_captions(found * 12, layout="video")


@pytest.mark.parametrize("layout", [*LAYOUTS, "{rows} by {cols}:", ""])
def test_content_is_what_follows_the_layout_prompt(layout: str) -> None:
    template = LAYOUTS.get(layout, layout)
    text = grid_prompt(GRID, "a cat", template, fps=2.0)
    assert content_of(text, layout_patterns(layout)) == "a cat"
