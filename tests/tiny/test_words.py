"""The words of the toy world, and the command that lists them."""

import json
import re
from collections.abc import Callable

import pytest

from gridctl.tiny.words import MOTION_WORDINGS, MOTIONS, VOCABULARY


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


def test_wordings_say_the_direction() -> None:
    meaning = {
        "moving right": "right", "moving left": "left", "moving up": "up|top|rising",
        "moving down": "down|bottom|falling", "moving clockwise": " clockwise",
        "moving counter-clockwise": "counter-clockwise", "growing": "growing|bigger|larger",
        "shrinking": "shrinking|smaller", "bouncing": "bouncing|jumping|hopping",
        "standing still": "still|not moving",
    }  # fmt: skip
    assert tuple(MOTION_WORDINGS) == tuple(meaning) == MOTIONS
    for motion, wordings in MOTION_WORDINGS.items():
        assert wordings[0] == motion
        assert all(re.search(meaning[motion], wording) for wording in wordings)
