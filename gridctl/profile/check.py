"""Values of a profile as they are written → sections, or a line for each fault: fact; remedy.

Values are checked strictly: `"4"` is not a number. Unknown keys are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from gridctl.errors import ProfileError, UsageError, listed
from gridctl.profile.profile import Profile
from gridctl.profile.settings import Limits, Parser, Section, settings_of
from gridctl.profile.toml import toml_key, toml_value
from gridctl.storage import is_remote

_EXPECTED: dict[Any, str] = {
    int: "a whole number; write one like 4.",
    float: "a number; write one like 0.5.",
    bool: "true or false; write one of them, without quotes.",
    str: 'a text; write it in quotes, like "this".',
    Path: 'a path; write it in quotes, like "this".',
    list: 'a list; write one like ["this", "that"].',
}
_S = TypeVar("_S", bound=Section)


def parse_section(kind: type[_S], table: object, where: str = "") -> _S:
    """The section that a table describes, whose own key is `where`; "" is a whole profile.

    Raises ProfileError with every fault, each as `key: fact; remedy`.
    """
    faults: list[str] = []
    section: _S = _section(kind, table, where, faults)
    if faults:
        raise ProfileError(faults)
    return section


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The entry of `names` that was probably meant, if any is similar."""
    return next(iter(get_close_matches(name, names, n=1)), None)


def _section(kind: type[_S], table: object, where: str, faults: list[str]) -> Any:
    """The section, or nothing of use if it adds to `faults`."""
    if not isinstance(table, Mapping):
        faults.append(f"{where}: {_shown(table)} is not a table; write [{where}] above its keys.")
        return None
    start = f"{where}." if where else ""
    rows = {row.key: row for row in settings_of(kind)}
    known, before = {}, len(faults)
    for key, row in rows.items():
        if key in table and not (row.is_optional and table[key] is None):
            known[row.name] = _value(row.kind, row.extras, table[key], start + key, faults)
    faults += [
        f"{start}{toml_key(key)}: unknown key; {_meant(kind, key)}"
        for key in table
        if key not in rows
    ]
    return kind(**known) if len(faults) == before else None


def _value(kind: Any, extras: Sequence[Any], value: Any, key: str, faults: list[str]) -> Any:
    """A value of a type, its section or its list, or nothing of use if it adds to `faults`."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return _section(kind, value, key, faults)
    try:
        for extra in extras:
            if isinstance(extra, Parser):
                value = extra.parse(value)
        if get_args(kind)[1:] == (...,):
            (item, _), before = get_args(kind), len(faults)
            if not isinstance(value, list | tuple):
                raise ValueError(f"{_shown(value)} is not {_list_of(item, key)}")
            value = tuple(
                _value(*_parts(item), each, f"{key}[{place}]", faults)
                for place, each in enumerate(value)
            )
            if len(faults) > before:
                return None
        else:
            value = _typed(kind, value)
        for extra in extras:
            if isinstance(extra, Limits):
                _check_limits(extra, value, kind)
            elif callable(extra):
                value = extra(value)
    except (ValueError, UsageError) as error:
        faults.append(f"{key}: {error}")
        return None
    return value


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and what it is annotated with."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        return kind, tuple(extras)
    return hint, ()


def _list_of(item: Any, key: str) -> str:
    if isinstance(item, type) and issubclass(item, Section):
        return f"an array of tables; write [[{key}]] above each."
    return _EXPECTED[list]


def _typed(kind: Any, value: Any) -> Any:
    """`value` if it has this type. Whole numbers are numbers too. Raises ValueError."""
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise ValueError(f"{_shown(value)} is not known; choose {listed(get_args(kind))}.")
    if get_origin(kind) is dict and isinstance(value, Mapping):
        return dict(value)
    if get_origin(kind) is tuple:  # its parser has checked it
        return value
    if kind is float and type(value) in (int, float):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise ValueError(f"{_shown(value)} is not a finite number; write one like 0.5.")
        return value
    is_path = kind is Path and (isinstance(value, str | PurePath) or is_remote(value))
    if type(value) is kind or is_path:
        return value
    expected = _EXPECTED.get(kind, "a table; write { name = value }.")
    raise ValueError(f"{_shown(value)} is not {expected}")


def _check_limits(limits: Limits, value: float, kind: type[float]) -> None:
    for is_kept, words, limit in (
        (limits.ge is None or value >= limits.ge, "the least is", limits.ge),
        (limits.gt is None or value > limits.gt, "it must be more than", limits.gt),
        (limits.le is None or value <= limits.le, "the most is", limits.le),
        (limits.lt is None or value < limits.lt, "it must be less than", limits.lt),
    ):
        if not is_kept and limit is not None:
            raise ValueError(f"{_shown(value)} is out of range; {words} {kind(limit)}.")


def _meant(kind: type[Section], key: str) -> str:
    """The remedy for an unknown key: the right section, a similar key, or all keys there are."""
    elsewhere = [
        f"{section.key}.{key}"
        for section in settings_of(Profile)
        if any(row.key == key for row in settings_of(section.kind))
    ]
    keys = [row.key for row in settings_of(kind)]
    close = nearest(key, keys)
    if elsewhere:
        return f"did you mean {listed(elsewhere)}?"
    return f"did you mean {close}?" if close else f"the keys here are {', '.join(keys)}."


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    try:
        text = toml_value(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "this number"
    return text if len(text) <= 60 else text[:57] + "..."
