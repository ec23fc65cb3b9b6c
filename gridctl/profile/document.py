"""The page docs/profiles.md, made from the schema.

python -m gridctl.profile.document docs/profiles.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gridctl.files import write_text
from gridctl.profile.schema import Profile, StageSection
from gridctl.profile.text import toml_value, values_of
from gridctl.profile.values import Cell, Layout, Sampling

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

This page is generated from the schema: `python -m gridctl.profile.document docs/profiles.md`.
"""
KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
# By the validator that each of these types ends with.
FORMS = {
    get_args(Cell)[-1]: "`WIDTHxHEIGHT`",
    get_args(Sampling)[-1]: "`uniform`, `windows`, `scenes` or `fps=RATE`, RATE 0.001 to 1,000",
    get_args(Layout)[-1]: "a name or a sentence",
}
SHOWN = 1e6  # upper limits below this are worth a reader's time


def profile_page() -> str:
    """Every key with its type, limits, default and meaning, as Markdown."""
    lines = [HEAD]
    defaults = dict(values_of(Profile()))
    for section, head in Profile.model_fields.items():
        table = type(head.default)
        lines += [f"## [{section}]", "", str(head.description), ""]
        lines += _table(table, {k: defaults[f"{section}.{k}"] for k in _keys(table)})
        if section == "train":
            lines += ["### [[train.stage]]", "", str(StageSection.__doc__), ""]
            lines += _table(StageSection, {})
    return "\n".join(lines).rstrip("\n") + "\n"


def _keys(table: type[BaseModel]) -> Iterator[str]:
    return (field.alias or name for name, field in table.model_fields.items())


def _table(table: type[BaseModel], defaults: dict[str, Any]) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in zip(_keys(table), table.model_fields.values(), strict=True):
        value = defaults.get(key)
        default = "unset" if value is None else f"`{toml_value(value)}`"
        cells = (f"`{key}`", kind_of(field), default, str(field.description))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def kind_of(field: FieldInfo) -> str:
    """The type of a key and its limits, in words."""
    return _kind(field.annotation, field.metadata)


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    if metadata and metadata[-1] in FORMS:
        return FORMS[metadata[-1]]
    if get_origin(annotation) in (Union, UnionType):
        return _kind(next(part for part in get_args(annotation) if part is not NoneType))
    if get_origin(annotation) is Literal:
        return _listed([f"`{choice}`" for choice in get_args(annotation)])
    if get_origin(annotation) is Annotated:
        kind, *inner = get_args(annotation)
        return _kind(kind, inner)
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)[0]
        return f"list of {_kind(inner)}" if get_origin(inner) is Literal else "array of tables"
    return KINDS[annotation] + _limits(metadata)


def _limits(metadata: Sequence[Any]) -> str:
    found: dict[str, float] = {}
    for item in metadata:
        for limit in getattr(item, "metadata", [item]):  # a Field holds a list of its limits
            found |= {n: getattr(limit, n) for n in ("ge", "gt", "le", "lt") if hasattr(limit, n)}
    if not found:
        return ""
    low = f"above {found['gt']:g}" if "gt" in found else f"{found['ge']:g}"
    if "lt" in found:
        return f", {low} and below {found['lt']:g}"
    if found["le"] >= SHOWN:
        return f", {low}" if "gt" in found else f", {low} or more"
    return f", {low} to {found['le']:,g}"


def _listed(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), profile_page())
