"""Presets are whole, valid, and the names that the schema knows."""

import pytest

from gridctl.profile import PRESETS, MemorySection, find_setting, parse_section
from gridctl.profile.settings import settings_of


def test_every_preset_is_a_choice() -> None:
    assert find_setting("memory.preset").choices == tuple(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_every_other_key(name: str) -> None:
    assert {"preset", *PRESETS[name]} == {row.key for row in settings_of(MemorySection)}
    memory = parse_section(MemorySection, {"preset": name, **PRESETS[name]})
    assert memory.to_json() == {"preset": name, **PRESETS[name]}


def test_an_unquantised_base_is_only_for_cards_that_hold_it() -> None:
    # 11.9 billion weights are 23.8 GB in bfloat16.
    whole = {name for name, knobs in PRESETS.items() if knobs["quantize"] == "none"}
    assert whole == {"cpu", "48gb", "80gb"}
