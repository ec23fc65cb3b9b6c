"""A profile back to TOML: for `profile show`, for `profile init` and for an adapter's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from gridctl.profile.schema import Profile

if TYPE_CHECKING:
    from gridctl.profile.load import LoadedProfile


def toml_value(value: object) -> str:
    """A value as it stands in a TOML file, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = (f"{key} = {toml_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    # JSON's escapes are TOML's, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def values_of(profile: Profile) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every key, with the cell as text and stages as tables."""
    for section in Profile.model_fields:
        table: BaseModel = getattr(profile, section)
        for name, value in table.model_dump(by_alias=True).items():
            if (section, name) == ("grid", "cell"):
                value = "{}x{}".format(*value)
            if (section, name) == ("train", "stage"):
                value = [{k: v for k, v in stage.items() if v is not None} for stage in value]
            yield f"{section}.{name}", value


def profile_toml(profile: Profile, *, keep_folders: bool = True) -> str:
    """Every value, one `section.key = value` a line; loading it gives the same profile.

    Not so without `keep_folders`, for a file that others will read: paths lose their folders.
    """
    lines = [
        _assignment(key, value if keep_folders else _without_folders(value))
        for key, value in values_of(profile)
    ]
    return "\n".join(lines) + "\n"


def without_folder(name: str) -> str:
    """A model's name; of an absolute path the last part alone, still told from a name."""
    is_path = name.startswith("~") or Path(name).is_absolute()
    return f"./{Path(name).name}" if is_path else name


def _without_folders(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str):
        return without_folder(value)
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    return value


def show_lines(loaded: LoadedProfile) -> list[str]:
    """Every value with its origin behind it; the lines are TOML again."""
    pairs = [(key, _assignment(key, value)) for key, value in values_of(loaded.profile)]
    width = min(48, max(len(text) for _, text in pairs))
    return [f"{text:<{width}}  # {' '.join(loaded.origins[key].split())}" for key, text in pairs]


def starter_toml(name: str, loaded: LoadedProfile) -> str:
    """A profile that extends `name`, with every key behind a comment sign, ready to be set."""
    lines = [
        f"# A profile that changes nothing of {name} yet: take the # off what you change.",
        "# `gridctl profile show FILE` prints every value and where it came from;",
        "# `gridctl profile check FILE` lists what is wrong with it.",
        f"extends = {toml_value(name)}",
    ]
    values = dict(values_of(loaded.profile))
    for section, head in Profile.model_fields.items():
        lines += ["", f"# {head.description}", f"[{section}]"]
        for attribute, field in type(getattr(loaded.profile, section)).model_fields.items():
            key = field.alias or attribute
            value = values[f"{section}.{key}"]
            text = f"#{key} =" if value is None else f"#{_assignment(key, value)}"
            lines.append(f"{text:<32}  # {field.description}")
    return "\n".join(lines) + "\n"


def _assignment(key: str, value: object) -> str:
    # TOML has no null: a value that is not set is a key that is not there.
    return f"# {key} is not set" if value is None else f"{key} = {toml_value(value)}"
