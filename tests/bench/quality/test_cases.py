"""Cases: scenes, prompts and what a task is given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gridctl.bench.quality import (
    PARTS,
    make_cases,
)
from gridctl.tiny.scene import is_held_out
from gridctl.tiny.words import MOTIONS

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


def test_seeds_and_numbers_give_other_scenes() -> None:
    assert make_cases("t2v", 2, 0)[1].scene != make_cases("t2v", 1, 1)[0].scene


def test_edits_change_one_attribute_in_turn() -> None:
    cases = make_cases("edit", 8, 0)
    assert [case.changed for case in cases] == ["color", "background", "shape", "style"] * 2
    for case in cases:
        assert case.source is not None
        differs = [
            name for name, value in vars(case.scene).items() if value != getattr(case.source, name)
        ]
        assert differs == [case.changed]
        assert case.prompt != case.source_prompt


def test_restore_is_given_flicker_and_noise() -> None:
    cases = make_cases("restore", 30, 0)
    given = [case.given(24, (32, 32)).astype(float) for case in cases]
    light = [k for k, case in enumerate(cases) if case.scene.background in ("gray", "beige")]
    corners = np.stack([given[k][:, :4, :4].mean((1, 2, 3)) for k in light])
    truth = np.stack([cases[k].truth(1, (32, 32))[0, 0, 0].mean() for k in light])[:, None]
    gains = corners / truth
    # Uniform within 15 percent, so a standard deviation of 0.15 / sqrt 3; noise adds a little.
    assert gains.std() == pytest.approx(0.15 / 3**0.5, rel=0.1)
    assert abs(gains - 1).max() < 0.2
    noise = [given[k][:, :4, :4].std((1, 2)).mean() for k in light]
    assert np.mean(noise) == pytest.approx(12, rel=0.1)
    assert (cases[0].given(24, (32, 32)) == given[0]).all()  # the same each time


def test_interpolation_asks_for_motions_that_ends_tell() -> None:
    motions = {case.scene.motion for case in make_cases("interpolate", 40, 0)}
    assert motions <= {*MOTIONS[:4], "growing", "shrinking"}
    assert len(motions) > 3
