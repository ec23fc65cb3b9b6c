"""Faults of a profile in words, one line each: `file: key: fact; remedy`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gridctl.profile.schema import Profile
from gridctl.profile.text import toml_key, toml_value

EXPECTED = {
    "int": "a whole number; write one like 4.",
    "float": "a number; write one like 0.5.",
    "finite": "a finite number; write one like 0.5.",
    "bool": "true or false; write one of them, without quotes.",
    "string": 'a text; write it in quotes, like "this".',
    "path": 'a path; write it in quotes, like "this".',
    "tuple": "an array of tables; write [[{key}]] above each.",
    "model": "a table; write [{key}] above its keys.",
}
LIMITS = {
    "greater_than_equal": ("the least is", "ge"),
    "less_than_equal": ("the most is", "le"),
    "greater_than": ("it must be more than", "gt"),
    "less_than": ("it must be less than", "lt"),
}


def faults_of(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(dotted key, fact and remedy) for every fault that pydantic found in one table."""
    for detail in error.errors(include_url=False):
        key = _dotted(detail["loc"])
        yield key, _fact(key, detail)


def nearest(name: str, names: list[str]) -> str | None:
    """The entry of `names` that was probably meant, if any is similar."""
    return next(iter(get_close_matches(name, names, n=1)), None)


def _fact(key: str, detail: Any) -> str:
    kind, value, context = detail["type"], _shown(detail["input"]), detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {_meant(detail['loc'])}"
    if kind == "literal_error":
        return f"{value} is not known; choose {context['expected'].replace(chr(39), '')}."
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_too_short":
        return f"{value} is empty; write a name in the quotes."
    if kind == "too_short":
        return f"{value} is empty; write at least one, or leave the key out."
    if kind in LIMITS:
        words, limit = LIMITS[kind]
        return f"{value} is out of range; {words} {context[limit]}."
    expected = EXPECTED.get(kind.split("_")[0])
    if expected:
        return f"{value} is not {expected.format(key=key)}"
    return f"{value}: {detail['msg']}; `gridctl profile show` lists what is valid."


def _meant(location: tuple[str | int, ...]) -> str:
    """The remedy for an unknown key: the right section, a similar key, or all keys there are."""
    *parents, name = [part for part in location if isinstance(part, str)]
    table: type[BaseModel] = Profile
    for part in parents:
        table = _tables(table)[part]
    elsewhere = [
        f"{section}.{name}" for section, keys in _tables(Profile).items() if name in names_of(keys)
    ]
    keys = names_of(table)
    close = nearest(name, keys)
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"did you mean {close}?" if close else f"the keys here are {', '.join(keys)}."


def names_of(table: type[BaseModel]) -> list[str]:
    """The keys of a table as TOML has them."""
    return [field.alias or name for name, field in table.model_fields.items()]


def _tables(table: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The tables, and arrays of tables, directly in `table`."""
    found = {}
    for name, field in table.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[field.alias or name] = kind
    return found


def _dotted(location: tuple[str | int, ...]) -> str:
    """train, stage, 0, steps → `train.stage[0].steps`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{toml_key(part)}" if text else toml_key(part)
    return text


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    try:
        text = toml_value(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "this number"
    return text if len(text) <= 60 else text[:57] + "..."
