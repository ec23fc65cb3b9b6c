"""Prompts from files and streams: their lines, settings and seeds."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import GridctlError, InputError
from gridctl.generate.prompts import LineReader, PromptLine, requests

Make = Callable[..., Any]
READER = LineReader(keys={"seed", "steps", "fps"})


def seeds(lines: list[PromptLine], request: Any, **options: Any) -> list[int]:
    made = requests(lines, request, **options)
    return [seed for one in made for seed in one.seeds or ()]


def line(text: str, **settings: Any) -> PromptLine:
    return PromptLine(text=text, settings=settings)


@pytest.mark.parametrize(
    ("lines", "options", "wanted"),
    [
        ([line("a"), line("b"), line("c")], {}, [5, 6, 7]),
        ([line("a", seed=7), line("b", seed=7)], {}, [7, 7]),  # each line's own
        ([line("a", seed=7), line("b")], {}, [7, 6]),
        ([line("a", seed=7), line("a", seed=7)], {"num": 2}, [7, 8, 7, 8]),
        ([line("a"), line("b", seed=9)], {"num": 2}, [5, 6, 9, 10]),
        ([line("a", steps=2), line("b")], {"before": 4}, [9, 10]),
    ],
)
def test_seeds(
    ask: Make, small: Make, lines: list[PromptLine], options: dict[str, int], wanted: list[int]
) -> None:
    assert seeds(lines, ask(profile=small(generate__seed=5)), **options) == wanted


def test_the_best_of_several_takes_several_seeds(ask: Make, small: Make) -> None:
    request = ask(profile=small(generate__seed=5), best_of=3)
    assert seeds([line("a"), line("b"), line("c", seed=1)], request, num=2) == [5, 8, 11, 14, 1, 4]


def test_lines_with_the_same_settings_are_one_request(ask: Make) -> None:
    lines = [
        line("a"),
        line("b"),
        line("c", steps=9, fps=3.0),
        line("d", steps=9, fps=3.0),
        line("e"),
    ]
    first, second, third = requests(lines, ask(fps=8.0))
    assert [request.prompts for request in (first, second, third)] == [
        ("a", "b"),
        ("c", "d"),
        ("e",),
    ]
    assert [request.number for request in (first, second, third)] == [1, 3, 5]
    rates = [request.profile.generate.fps for request in (first, second, third)]
    assert rates == [8.0, 3.0, 8.0]
    assert second.profile.is_flag("generate.fps")  # a line wins over the adapter
    assert [request.profile.generate.steps for request in (first, second, third)] == [1, 9, 1]
    (twice,) = requests([line("a"), line("b")], ask(), num=2)
    assert twice.prompts == ("a", "a", "b", "b")


@pytest.mark.parametrize(
    ("count", "num", "before", "digits"), [(1, 1, 0, 3), (500, 2, 0, 4), (1, 1, 999, 4)]
)
def test_numbers_have_room_for_all(
    ask: Make, count: int, num: int, before: int, digits: int
) -> None:
    (request,) = requests([line("a")] * count, ask(), num=num, before=before)
    assert (request.digits, request.number) == (digits, before + 1)


def test_a_line_is_a_prompt_or_json() -> None:
    assert READER.read("a star", "here", 4) == PromptLine(text="a star", number=4)
    own = READER.read('{"prompt": "a star", "seed": 3, "steps": 2}', "here", 4)
    assert own == PromptLine(text="a star", settings={"seed": 3, "steps": 2}, number=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{broken", "here is not JSON"),
        ('{"text": "a star"}', "here has no prompt"),
        ('{"prompt": " "}', "here has no prompt"),
        ('{"prompt": 3}', "here has no prompt"),
        ('{"prompt": "\\ud800"}', "here: the prompt is not UTF-8"),
        ('{"prompt": "a", "sed": 1}', "here: sed: a line has no such key; did you mean seed?"),
        ('{"prompt": "a", "size": 1}', "here: size: a line has no such key; it may have fps, seed"),
        ('{"prompt": "a", "seed": -1}', "here: seed: -1 is out of range"),
    ],
)
def test_a_wrong_line_is_named(text: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        READER.read(text, "here", 1)
    assert str(raised.value).startswith(words)
    with pytest.raises(InputError, match="here is not JSON"):
        READER.read("a star", "here", 1, is_json=True)


def test_a_file_of_prompts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa red circle\n\n  a blue star  \r\n", "utf-8")
    assert [(one.text, one.number) for one in READER.read_file(file)] == [
        ("a red circle", 1),
        ("a blue star", 3),
    ]
    file.write_text("\n \n")
    with pytest.raises(InputError, match="has no prompt; write one per line"):
        READER.read_file(file)
    file.write_bytes(b"a r\xe4d star")
    with pytest.raises(InputError, match="cannot be read as a text file"):
        READER.read_file(file)
    json = tmp_path / "prompts.jsonl"
    json.write_text('{"prompt": "a star"}\na heart\n')
    with pytest.raises(InputError, match="line 2 is not JSON"):
        READER.read_file(json)


def test_all_wrong_lines_of_a_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red circle\n" + "{broken\n" * 12)
    with pytest.raises(InputError) as raised:
        READER.read_file(file)
    *shown, last = str(raised.value).splitlines()
    assert [error.split(" line ")[1].split()[0] for error in shown] == [
        str(k) for k in range(2, 12)
    ]
    assert last == f"2 more lines of {file} are wrong."
    file.write_text("{broken\n" * 10)
    with pytest.raises(InputError) as raised:
        READER.read_file(file)
    assert len(str(raised.value).splitlines()) == 10


class Chunks(io.BytesIO):
    """A stream that gives a chunk of bytes at each read."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


def test_lines_of_a_stream_come_together() -> None:
    """Those of one read. Wrong ones keep their place, so that mending one renames no other."""
    wrong: list[tuple[int, GridctlError]] = []
    stream = Chunks(b"a\n\n{bro", b"ken\nb\n\xe4\n", b"c")
    groups = list(READER.read_stream(stream, lambda *fault: wrong.append(fault)))
    assert [[(one.text, one.number, one.place) for one in group] for group in groups] == [
        [("a", 1, 1)],
        [("b", 4, 3)],
        [("c", 6, 5)],
    ]
    assert [(number, str(error).split(" (")[0]) for number, error in wrong] == [
        (3, "stdin line 3 is not JSON"),
        (5, "stdin line 5 is not UTF-8; send prompts as UTF-8."),
    ]
    for nothing in (b"", b"\n \n"):
        with pytest.raises(InputError, match="stdin has no prompt"):
            list(READER.read_stream(Chunks(nothing), lambda *_: None))
