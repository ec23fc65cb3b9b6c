"""A profile as TOML text.

tomlkit knows how TOML quotes keys and values. It only writes here: tomli reads, because its
errors name line and column and it is the reference for what TOML is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.items import Item

from gridctl.profile.schema import Profile
from gridctl.storage import as_path, is_remote


def toml_value(value: object) -> str:
    """A value as it stands in a TOML file, on one line."""
    return _item(value).as_string()


def toml_key(*parts: str) -> str:
    """`section.key`, with quotes where TOML needs them."""
    return tomlkit.key(parts).as_string()


def toml_line(key: str, value: object) -> str:
    """`section.key = value`. TOML has no null, so a value that is not set becomes a comment."""
    return f"# {key} is not set" if value is None else f"{key} = {toml_value(value)}"


def values_of(profile: Profile) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every key, with sizes as text and stages as tables."""
    for section in Profile.model_fields:
        table: BaseModel = getattr(profile, section)
        for name, value in table.model_dump(by_alias=True).items():
            if (section, name) in (("grid", "cell"), ("generate", "size")):
                value = "{}x{}".format(*value)
            if (section, name) == ("train", "stage"):
                value = [{k: v for k, v in stage.items() if v is not None} for stage in value]
            yield f"{section}.{name}", value


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


def _item(value: object) -> Item:
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
    if isinstance(value, Path):
        return tomlkit.item(str(value))
    return tomlkit.item(value)
