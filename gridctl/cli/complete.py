"""Shell completion: the values that an option takes, and the names of profiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SAMPLES = ("uniform", "windows", "scenes", "fps=8")


def choices(key: str) -> Callable[[], list[str]]:
    """A completer for an option that sets the profile's `key`, from the schema."""

    def complete() -> list[str]:
        from gridctl.profile import find_setting

        return list(find_setting(key).choices)

    return complete


def samples() -> list[str]:
    """What --sample takes."""
    return list(SAMPLES)


def layouts() -> list[str]:
    """The named layouts of `caption --layout`."""
    from gridctl.prompt import LAYOUTS

    return list(LAYOUTS)


def profiles() -> list[str]:
    """The profiles that come with gridctl, and those in the current folder."""
    from gridctl.profile import shipped_profiles

    here = sorted(path.name for path in Path().glob("*.toml") if path.name != "pyproject.toml")
    return [*shipped_profiles(), *here]
