"""The words of the toy world, and the command that lists them."""

import json
from collections.abc import Callable

import pytest

from gridctl.tiny.words import VOCABULARY


def test_the_kinds_of_words() -> None:
    assert [len(kind) for kind in VOCABULARY.values()] == [6, 4, 8, 5, 10, 3]


def test_the_command_lists_them(
    gridctl: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gridctl("generate", "vocabulary") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "shapes       circle, square, triangle, star, cross, heart"
    assert lines[-1].split(maxsplit=1)[0] == "a"
    assert gridctl("generate", "vocabulary", "--json") == 0
    assert json.loads(capsys.readouterr().out)["backgrounds"][-1] == "beige"
