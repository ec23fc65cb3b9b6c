"""What `profile show` and `profile init` print."""

from __future__ import annotations

import textwrap

from gridctl.profile.load import LoadedProfile
from gridctl.profile.schema import Profile
from gridctl.profile.text import toml_line, toml_value, values_of


def show_lines(loaded: LoadedProfile) -> list[str]:
    """Every value and, in a comment, its origin. The lines are a valid profile."""
    pairs = [(key, toml_line(key, value)) for key, value in values_of(loaded.profile)]
    width = min(48, max(len(text) for _, text in pairs))
    return [f"{text:<{width}}  # {' '.join(loaded.origins[key].split())}" for key, text in pairs]


def starter_toml(name: str, loaded: LoadedProfile) -> str:
    """A profile that extends `name`, with every key in a comment, ready to be set."""
    lines = [
        f"# This profile is the same as {name} until you change it: remove the # before a key.",
        "# `gridctl profile show FILE` prints every value and where it came from.",
        "# `gridctl profile check FILE` lists every fault.",
        f"extends = {toml_value(name)}",
    ]
    values = dict(values_of(loaded.profile))
    for section, head in Profile.model_fields.items():
        lines += ["", "", f"# {head.description}", f"[{section}]"]
        for attribute, field in type(getattr(loaded.profile, section)).model_fields.items():
            key = field.alias or attribute
            value = values[f"{section}.{key}"]
            lines += ["", *_comment(str(field.description))]
            lines.append(f"#{key} =" if value is None else f"#{toml_line(key, value)}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 90, break_long_words=False)]
