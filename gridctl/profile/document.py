"""The page docs/profiles.md, made from the schema.

python -m gridctl.profile.document docs/profiles.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args, get_origin

from gridctl.errors import listed
from gridctl.files import write_text
from gridctl.profile.profile import Profile
from gridctl.profile.settings import Limits, Section, Setting, settings_of
from gridctl.profile.toml import toml_value
from gridctl.profile.training import StageSection

HEAD = """\
# Profile keys

A profile is a TOML file with the settings of a project. It lists only what differs from its
defaults, or from the profile that it `extends`: a shipped profile (`gridctl profile list`) or a
path. `gridctl profile init` writes one to start from, `gridctl profile check FILE` lists every
fault in it, and `gridctl profile show FILE` prints every value and where it came from.

A value comes from the first of these that has it: the command's flag, the profile, the profile
that it extends, the memory preset (for keys of `[memory]`), the default below. Paths are relative
to the current folder and may start with `~`. Only `extends` is relative to its own file. Where no
upper limit is shown, it is a million or more.

This page is generated from the table of settings:
`python -m gridctl.profile.document docs/profiles.md`.
"""
KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
SHOWN = 1e6  # upper limits below this are worth a reader's time


def profile_page() -> str:
    """Every key with its type, limits, default and meaning, as Markdown."""
    lines = [HEAD]
    for section in settings_of(Profile):
        lines += [f"## [{section.key}]", "", section.help, "", *_table(section.kind)]
        if section.key == "train":
            lines += ["### [[train.stage]]", "", str(StageSection.__doc__), ""]
            lines += _table(StageSection)
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(section: type[Section]) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    defaults = section().values()
    for row in settings_of(section):
        value = defaults[row.key]
        default = "unset" if value is None else f"`{toml_value(value)}`"
        cells = (f"`{row.key}`", type_in_words(row), default, row.help)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def type_in_words(row: Setting) -> str:
    """The type of a setting and its limits."""
    if row.form:
        return row.form.words
    if get_origin(row.kind) is dict:
        return "table"
    if get_origin(row.kind) is tuple:
        item = get_args(row.kind)[0]
        is_section = isinstance(item, type) and issubclass(item, Section)
        if is_section:
            return "array of tables"
        words = [f"`{choice}`" for choice in get_args(item)]
        return f"list of {listed(words) if words else KINDS[item]}"
    if row.choices:
        return listed([f"`{choice}`" for choice in row.choices])
    unit = f" of {row.unit}" if row.unit else ""
    return f"{KINDS[row.kind]}{unit}" + (_limits(row.limits) if row.limits else "")


def _limits(limits: Limits) -> str:
    low = f"above {limits.gt:g}" if limits.gt is not None else f"{limits.ge:g}"
    if limits.lt is not None:
        return f", {low} and below {limits.lt:g}"
    if limits.le is None or limits.le >= SHOWN:
        return f", {low}" if limits.gt is not None else f", {low} or more"
    return f", {low} to {limits.le:,g}"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), profile_page())
