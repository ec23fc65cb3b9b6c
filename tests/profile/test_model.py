"""Presets and optimizers: whole, valid, and the names that settings accept."""

import pytest

from gridctl.errors import ProfileError
from gridctl.profile import OPTIMIZERS, PRESETS, MemorySection, find_setting, parse_section
from gridctl.profile.settings import settings_of


def test_names_in_the_tables_are_the_choices() -> None:
    assert find_setting("memory.preset").choices == tuple(PRESETS)
    assert find_setting("memory.optimizer").choices == tuple(OPTIMIZERS)
    with pytest.raises(ProfileError, match='"sgd" is not known; choose adamw or adamw8bit'):
        parse_section(MemorySection, {"optimizer": "sgd"})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_every_other_key(name: str) -> None:
    values = PRESETS[name].values
    assert {"preset", *values} == {row.key for row in settings_of(MemorySection)}
    memory = parse_section(MemorySection, {"preset": name, **values})
    assert memory.to_json() == {"preset": name, **values}


def test_presets_are_for_the_card_in_their_name() -> None:
    cards = {name: preset.card_gib for name, preset in PRESETS.items()}
    assert cards == {"cpu": None, "12gb": 12, "16gb": 16, "24gb": 24, "48gb": 48, "80gb": 80}


def test_only_large_cards_hold_an_unquantised_base() -> None:
    # 11.9 billion weights are 23.8 GB in bfloat16.
    whole = {name for name, preset in PRESETS.items() if preset.values["quantize"] == "none"}
    assert whole == {"cpu", "48gb", "80gb"}
