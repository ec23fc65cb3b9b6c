"""Profiles as TOML text: their values, what `profile show` prints and what `profile init` writes.

tomlkit knows how TOML quotes keys and values. It only writes here, and is imported for that:
tomli reads, because its errors name line and column and it is the reference for what TOML is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gridctl.profile.profile import Profile
from gridctl.profile.settings import settings_of
from gridctl.storage import as_path, is_remote


def toml_value(value: object) -> str:
    """A value as it stands in a TOML file, on one line."""
    text: str = _item(value).as_string()
    return text


def toml_key(*parts: str) -> str:
    """`section.key`, with quotes where TOML needs them."""
    import tomlkit

    return tomlkit.key(parts).as_string()


def toml_line(key: str, value: object) -> str:
    """`section.key = value`. TOML has no null, so a value that is not set becomes a comment."""
    return f"# {key} is not set" if value is None else f"{key} = {toml_value(value)}"


def values_of(profile: Profile) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every key, with sizes as text and stages as tables."""
    for section in settings_of(Profile):
        for key, value in getattr(profile, section.name).values().items():
            yield f"{section.key}.{key}", value


def profile_toml(profile: Profile, *, keep_folders: bool = True) -> str:
    """Every value, one `section.key = value` per line. Loading it gives the same profile.

    Without `keep_folders` paths lose their folders, for a file that others will read. Then it may
    not load as the same profile.
    """
    lines = [
        toml_line(key, value if keep_folders else _without_folders(value))
        for key, value in values_of(profile)
    ]
    return "\n".join(lines) + "\n"


def show_lines(profile: Profile) -> list[str]:
    """Every value and, in a comment, its origin. The lines are a valid profile."""
    pairs = [(key, toml_line(key, value)) for key, value in values_of(profile)]
    width = min(48, max(len(text) for _, text in pairs))
    return [f"{text:<{width}}  # {' '.join(profile.origins[key].split())}" for key, text in pairs]


def starter_toml(name: str, profile: Profile) -> str:
    """A profile that extends `name`, with every key in a comment, ready to be set."""
    lines = [
        f"# This profile is the same as {name} until you change it: remove the # before a key.",
        "# `gridctl profile show FILE` prints every value and where it came from.",
        "# `gridctl profile check FILE` lists every fault.",
        f"extends = {toml_value(name)}",
    ]
    values = dict(values_of(profile))
    for section in settings_of(Profile):
        lines += ["", "", f"# {section.help}", f"[{section.key}]"]
        for row in settings_of(section.kind):
            value = values[f"{section.key}.{row.key}"]
            text = f"#{row.key} =" if value is None else f"#{toml_line(row.key, value)}"
            help_lines = textwrap.wrap(row.help, 90, break_long_words=False)
            lines += ["", *(f"# {line}" for line in help_lines), text]
    return "\n".join(lines) + "\n"


def without_folder(name: str) -> str:
    """A model's name. Of an absolute path only the last part, marked as a path by ./"""
    is_path = name.startswith("~") or Path(name).is_absolute()
    return f"./{Path(name).name}" if is_path else name


def _without_folders(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if is_remote(value):
        return as_path(value).name
    if isinstance(value, str):
        return without_folder(value)
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    return value


def _item(value: object) -> Any:
    import tomlkit

    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for key, inner in value.items():
            table.append(tomlkit.key([key]), _item(inner))
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        for inner in value:
            array.append(_item(inner))
        return array
    return tomlkit.item(str(value) if isinstance(value, Path) else value)
