"""Cases: scenes, prompts and what a task is given."""

from collections.abc import Callable
from typing import Any

import pytest

from gridctl.bench.quality import (
    PARTS,
    make_cases,
)
from gridctl.tiny.scene import is_held_out

Make = Callable[..., Any]
COUNT = 6


@pytest.mark.parametrize("part", PARTS)
def test_every_prompt_is_held_out(part: Any) -> None:
    cases = make_cases(part, 20, 5)
    assert all(is_held_out(case.source or case.scene) for case in cases)
    kind = "solid" if part in ("turn", "multiview") else "shape"
    assert {case.scene.kind for case in cases} == {kind}
    assert len({case.prompt for case in cases}) > 15
    assert make_cases(part, 4, 5) == cases[:4]
