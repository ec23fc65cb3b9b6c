"""Settings of a profile: how a row of the table is written, and the types that values have.

A section of a profile is a frozen dataclass whose class body is the table: each field is a
setting with its type, limits, default and help text, and with the flag that sets it. Profiles,
their errors, flags, help pages and docs/profiles.md are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from gridctl.errors import listed
from gridctl.files import expand_home
from gridctl.geometry import Grid, parse_size
from gridctl.prompt import LAYOUTS, check_question, layout_template
from gridctl.storage import as_path, is_remote, refuse_remote
from gridctl.text import is_encodable

MAX_SEED = 2**63 - 1  # what a TOML integer can say; torch takes up to 2**64 - 1


def setting(
    default: Any,
    help: str,
    *,
    unit: str | None = None,
    key: str | None = None,
    panel: str | None = None,
    flag: str | None = None,
    metavar: str | None = None,
) -> Any:
    """A field of a section.

    `unit` is the plural of what a number counts. `key` is the setting's name in TOML, if it is not
    the field's. `panel` is the part of help pages where its flag stands; without it there is no
    flag. `flag` is the flag's name, if it is not the field's, and `metavar` stands for its value.
    """
    row = {"help": help, "unit": unit, "key": key, "panel": panel, "flag": flag, "metavar": metavar}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=row)
    return field(default=default, metadata=row)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a number: `ge` and `le` belong to it, `gt` and `lt` do not."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


@dataclass(frozen=True, kw_only=True)
class Parser:
    """Turns what was written into the type, before it is checked.

    `parse` raises ValueError or UsageError. Plain functions in a type do the same after the check.
    """

    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class Choice:
    """One of the names in another table."""

    names: tuple[str, ...]

    def __call__(self, value: str) -> str:
        """The value, if it is one of the names. Raises ValueError."""
        if value in self.names:
            return value
        raise ValueError(f'"{value}" is not known; choose {listed(self.names)}.')


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a value is written: in words, on help pages, and the values that completion offers."""

    words: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A row of the table."""

    name: str  # of the field
    key: str
    kind: Any  # int, float, bool, str, Path, dict, a Literal, a tuple or a section
    extras: tuple[Any, ...]  # Limits, a Parser, a Form, and functions that check
    is_optional: bool
    default: Any
    help: str
    unit: str | None
    panel: str | None
    flag: str
    metavar: str | None

    @property
    def limits(self) -> Limits | None:
        """Bounds of a number."""
        return next((extra for extra in self.extras if isinstance(extra, Limits)), None)

    @property
    def form(self) -> Form | None:
        """Form of a value that is not just a number, a text or a choice."""
        return next((extra for extra in self.extras if isinstance(extra, Form)), None)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values, or examples of them, if they can be listed."""
        if get_origin(self.kind) is Literal:
            return get_args(self.kind)
        for extra in self.extras:
            if isinstance(extra, Choice):
                return extra.names
        return self.form.choices if self.form else ()


_TABLES: dict[type[Section], tuple[Setting, ...]] = {}


def settings_of(section: type[Section]) -> tuple[Setting, ...]:
    """The rows of a section's table, in their order."""
    if section not in _TABLES:
        hints = get_type_hints(section, include_extras=True)
        rows = [each for each in fields(section) if "help" in each.metadata]
        _TABLES[section] = tuple(_setting(hints[each.name], each) for each in rows)
    return _TABLES[section]


def _setting(hint: Any, each: Any) -> Setting:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    (inner,) = (part for part in parts if part is not NoneType)
    kind, *extras = get_args(inner) if get_origin(inner) is Annotated else (inner,)
    row = each.metadata
    return Setting(
        name=each.name,
        key=row["key"] or each.name,
        kind=kind,
        extras=tuple(extras),
        is_optional=NoneType in parts,
        default=each.default_factory() if each.default is MISSING else each.default,
        help=row["help"],
        unit=row["unit"],
        panel=row["panel"],
        flag=row["flag"] or f"--{each.name.replace('_', '-')}",
        metavar=row["metavar"],
    )


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of a profile."""

    def values(self) -> dict[str, Any]:
        """TOML key → value, with a size as text and stages as tables."""
        return {row.key: _plain(row, getattr(self, row.name)) for row in settings_of(type(self))}

    def to_json(self) -> dict[str, Any]:
        """TOML key → value that JSON can hold: text for a path, a list for a size."""
        rows = settings_of(type(self))
        return {row.key: _json(getattr(self, row.name)) for row in rows}


def _plain(row: Setting, value: Any) -> Any:
    if row.kind == tuple[int, int] and value is not None:
        return "{}x{}".format(*value)
    if isinstance(value, tuple) and any(isinstance(item, Section) for item in value):
        return [{k: v for k, v in item.values().items() if v is not None} for item in value]
    return str(value) if is_remote(value) else value


def _json(value: Any) -> Any:
    if isinstance(value, Section):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    return str(value) if isinstance(value, PurePath) or is_remote(value) else value


def _parse_cell(value: Any) -> tuple[int, int]:
    """`"256x192"`, 256 or [256, 192] → (width, height)."""
    if isinstance(value, str):
        value = parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    match value:
        case [int(width), int(height)] if not (isinstance(width, bool) or isinstance(height, bool)):
            return Grid(rows=1, cols=1, cell=(width, height)).cell
    raise ValueError('a cell is "WxH" in pixels; write "256x256", 256 or [256, 256].')


def _parse_time(value: Any) -> Any:
    """`"1:30"` or `"0:01:30.0"` → seconds."""
    if not isinstance(value, str):
        return value
    try:
        parts = [float(part) for part in value.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or any(not 0 <= part < 1e7 for part in parts):
        raise ValueError(f"time {value!r} is unknown; write seconds, or 1:02:03.5.")
    return sum((part * 60.0**power for power, part in enumerate(reversed(parts))), 0.0)


def _check_sample(value: str) -> str:
    name, equals, rate = value.partition("=")
    if not equals and name in ("uniform", "windows", "scenes"):
        return value
    if name == "fps" and re.fullmatch(r"\d+(\.\d+)?", rate) and 0.001 <= float(rate) <= 1000:
        return value
    raise ValueError(
        f'"{value}" is not known; choose uniform, windows, scenes, or fps=8 (0.001 to 1000).'
    )


def _check_text(value: str) -> str:
    if not is_encodable(value):
        raise ValueError("it is not UTF-8 text; type it again.")
    return value


def _check_layout(value: str) -> str:
    layout_template(value)
    return value


def _check_question(value: str) -> str:
    check_question(value)
    return value


def _check_name(value: str) -> str:
    if not value:
        raise ValueError('"" is empty; write a name in the quotes.')
    return value


def check_some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list."""
    if not value:
        raise ValueError("[] is empty; write at least one, or leave the key out.")
    return value


def _local_path(value: Any) -> Path:
    refuse_remote(value, "it")
    return Path(expand_home(str(value)))


def _data_path(value: Any) -> Path:
    return as_path(value) if is_remote(value) else Path(expand_home(str(value)))


Cell = Annotated[
    tuple[int, int], Parser(parse=_parse_cell), Form(words="`WIDTHxHEIGHT`", metavar="WxH")
]
Sampling = Annotated[
    str,
    _check_sample,
    Form(
        words="`uniform`, `windows`, `scenes` or `fps=RATE`, RATE 0.001 to 1,000",
        choices=("uniform", "windows", "scenes", "fps=8"),
    ),
]
FilePath = Annotated[Path, _local_path]
DataPath = Annotated[Path, _data_path]
"""A folder on this machine, or a URL."""
Name = Annotated[str, _check_name]
ModelName = Annotated[Name, expand_home]
"""A Hub id, a name of ours, or a path."""
Count = Annotated[int, Limits(ge=1, le=10**9)]
Whole = Annotated[int, Limits(ge=0, le=10**9)]
Seed = Annotated[int, Limits(ge=0, le=MAX_SEED)]
Fraction = Annotated[float, Limits(ge=0, le=1)]
Weight = Annotated[float, Limits(ge=0, le=1e6)]
Rate = Annotated[float, Limits(gt=0, le=10)]
LogitMean = Annotated[float, Limits(ge=-100, le=100)]
Scale = Annotated[float, Limits(ge=0, le=100)]
Fps = Annotated[float, Limits(ge=0.001, le=1000)]
Time = Annotated[
    float,
    Parser(parse=_parse_time),
    Limits(ge=0, le=1e7),
    Form(words="seconds, or text such as `1:02:03.5`", metavar="TIME"),
]
Text = Annotated[str, _check_text]
Layout = Annotated[Text, _check_layout, Form(words="a name or a sentence", choices=tuple(LAYOUTS))]
Question = Annotated[Text, _check_question]
