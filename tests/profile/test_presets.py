"""Presets are whole, valid, and the names that the schema knows."""

from typing import get_args

import pytest

from gridctl.profile import MemorySection
from gridctl.profile.presets import PRESETS

KNOBS = set(MemorySection.model_fields) - {"preset"}


def test_schema_and_table_know_the_same_presets() -> None:
    literal, _ = get_args(MemorySection.model_fields["preset"].annotation)
    assert set(get_args(literal)) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_every_knob_validly(name: str) -> None:
    assert set(PRESETS[name]) == KNOBS
    MemorySection.model_validate({"preset": name, **PRESETS[name]})


def test_an_unquantised_base_is_only_for_cards_that_hold_it() -> None:
    # 11.9 billion weights are 23.8 GB in bfloat16.
    whole = {name for name, knobs in PRESETS.items() if knobs["quantize"] == "none"}
    assert whole == {"cpu", "48gb", "80gb"}
