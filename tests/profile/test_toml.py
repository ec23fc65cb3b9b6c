"""What `show` and `init` write is TOML that says the same again."""

from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from gridctl.profile import (
    load_profile,
    profile_toml,
    shipped_profiles,
    show_lines,
    starter_toml,
)
from gridctl.profile.toml import toml_value

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    assert tomli.loads(f"key = {toml_value(value)}")["key"] == value


def test_keys_that_need_quotes_come_back_as_they_were(tmp_path: Path) -> None:
    request = {"top k": 3, "x.y": {"": 1}, "é": [{"a b": True}]}
    loaded = load_profile(None, {"caption.request": request})
    (tmp_path / "a.toml").write_text(profile_toml(loaded.profile), encoding="utf-8")
    assert load_profile(tmp_path / "a.toml").profile.caption.request == request


@pytest.mark.parametrize("name", shipped_profiles())
def test_shown_values_are_a_valid_profile(tmp_path: Path, name: str) -> None:
    loaded = load_profile(name)
    lines = show_lines(loaded.profile)
    assert 'grid.order = "row-major"' in lines[3]
    assert lines[3].endswith("# default")
    path = tmp_path / "shown.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert load_profile(path).profile == loaded.profile


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_starter_changes_nothing_until_a_key_is_uncommented(tmp_path: Path, name: str) -> None:
    loaded = load_profile(name)
    path = tmp_path / "gridctl.toml"
    path.write_text(starter_toml(name, loaded.profile), encoding="utf-8")
    started = load_profile(path)
    assert started.profile == loaded.profile
    assert str(path) not in started.profile.origins.values()

    # Every key with its sign off, but those that are not set: still the same, now from the file.
    lines = path.read_text(encoding="utf-8").splitlines()
    bare = [
        line[1:] if line.startswith("#") and line[1] != " " and not line.endswith(" =") else line
        for line in lines
    ]
    path.write_text("\n".join(bare), encoding="utf-8")
    started = load_profile(path)
    assert started.profile == loaded.profile
    assert started.profile.origins["train.stage"] == str(path)
    assert started.profile.origins["memory.device"] == str(path)
