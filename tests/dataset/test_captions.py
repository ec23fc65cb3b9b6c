"""Captions: words that say something, and faults."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from gridctl.dataset.captions import (
    Captioned,
    content_of,
    layout_patterns,
    refuse_useless_captions,
    says_nothing,
    words_of_name,
)
from gridctl.dataset.folder import note_provenance
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.prompt import LAYOUTS, grid_prompt
from tests.hostile import hostile_texts, no_hang

NAMES = [
    *("IMG_4712", "IMG_E4712", "_MG_1234", "DSC_0042", "DSC00042", "DSCF1234", "DSCN0001"),
    *("MVI_1234", "MOV_0012", "VID_20240505_121212", "VID-20240505-WA0003", "PXL_20240505_1212"),
    *("PXL_20240505_121212345.TS", "20240505_121212", "2024-05-05 12.12.12", "GOPR0042"),
    *("GX010123", "GH010123", "GP020042", "DJI_0001", "DJI_20240505121212_0001_D", "P1000123"),
    *("C0001", "00001", "MAH00042", "SAM_0001", "video-5", "video (3)", "VIDEO0012", "clip 0001"),
    *("clip_0001", "clip0001", "movie", "Untitled", "Untitled 2", "untitled project", "output"),
    *("New Recording 12", "Screen Recording 2024-05-05 at 12.12.12 PM", "screen-20240505-121212"),
    *("Screenrecorder-2024-05-05-12-12-12-123", "ScreenRecording_05-05-2024 12-12-12_1"),
    *(
        "Bildschirmaufnahme 2024-05-05 um 12.12.12",
        "RPReplay_Final1650000000",
        "屏幕录制2024-05-05",
    ),
    *("画面収録 2024-05-05 12.12.12", "Enregistrement de l’écran 2024-05-05 à 12.12.12"),
    *("WhatsApp Video 2024-05-05 at 12.12.12", "Snapchat-1234567890", "received_1234567890"),
    *("mmexport1650000000", "InShot_20240505_121212", "lv_0_20240505121212", "videoplayback"),
    *("0b6e1c2a-3f4d-4e5a-9b8c-7d6e5f4a3b2c", "0B6E1C2A3F4D4E5A9B8C7D6E5F4A3B2C", "dQw4w9WgXcQ"),
    *(
        "d41d8cd98f00b204",
        "final_v2_1080p_60fps",
        "frame_0001",
        "take 3 final FINAL (copy)",
        "x264",
    ),
    *("2024-05-05T12h30m05s", "20240505T121212Z", "1920x1080", "3rd take"),
    *("trim.0B6E1C2A-3F4D-4E5A-9B8C-7D6E5F4A3B2C", "tmpabc1d2ef3.mp4", "part1", "test"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_cameras_and_programs_give_say_nothing(name: str) -> None:
    assert says_nothing(name)
    assert says_nothing(words_of_name(name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("red_ball-bounces 02", "red ball bounces"),
        ("IMG_4712 corgi on the beach", "corgi on the beach"),
        ("corgi runs [dQw4w9WgXcQ]", "corgi runs"),
        ("2024-05-05 birthday cake", "birthday cake"),
        ("bear", "bear"),
        ("2d animation", "2d animation"),
        ("80s disco 1080p 60fps", "80s disco"),
        ("猫", "猫"),
        ("हिन्दी नृत्य", "हिन्दी नृत्य"),
        ("Ein Bär läuft", "Ein Bär läuft"),
        ("MyBigRedBall", "MyBigRedBall"),
        ("video of a train", "video of a train"),
        ("screen door", "screen door"),
        ("new york", "new york"),
        ("goat", "goat"),
        ("v", "v"),
        ("face", "face"),
        ("decade", "decade"),
        ("the dog's run & jump", "the dog's run jump"),
        ("they’re running", "they're running"),
    ],
)
def test_words_that_describe_something_stay(name: str, words: str) -> None:
    assert words_of_name(name) == words
    assert words_of_name(unicodedata.normalize("NFD", name)) == words
    assert not says_nothing(words)


@pytest.mark.parametrize("text", ["", "...", "A video.", "The clip shows a video.", "Untitled, 2."])
def test_empty_sentences_say_nothing(text: str) -> None:
    assert says_nothing(text)


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


@given(hostile_texts(["1", "a", "x", "A", "1a", "12h", "st", "t", "p", "tmp", "'s", "-", "_", " "]))
@settings(max_examples=15)
def test_no_caption_keeps_the_checks_busy(text: str) -> None:
    with no_hang():
        says_nothing(text)
        words_of_name(text)
        content_of(text, layout_patterns("{rows} by {cols} {frames}"))


@pytest.mark.parametrize("word", ["1" * 30 + "x", "1" + "a" * 100_000, "x" * 100_000])
def test_long_words_are_read_once(word: str) -> None:
    with no_hang():
        assert not says_nothing(word)
        assert content_of(word, layout_patterns("video")) == word
