"""Types of a profile's values, with their limits."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from gridctl.errors import UsageError
from gridctl.files import expand_home
from gridctl.geometry import Grid, parse_size
from gridctl.prompt import check_question, layout_template
from gridctl.storage import as_path, is_remote, refuse_remote
from gridctl.text import is_encodable

MAX_SEED = 2**63 - 1  # what a TOML integer can say; torch takes up to 2**64 - 1


def _parse_cell(value: object) -> tuple[int, int]:
    """`"256x192"`, 256 or [256, 192] → (width, height); ValueError for anything else."""
    if isinstance(value, str):
        value = _as_value_error(parse_size, value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    match value:
        case [int(width), int(height)] if not (isinstance(width, bool) or isinstance(height, bool)):
            _as_value_error(lambda cell: Grid(rows=1, cols=1, cell=cell), (width, height))
            return width, height
    raise ValueError('a cell is "WxH" in pixels; write "256x256", 256 or [256, 256].')


def _parse_sample(value: str) -> str:
    name, equals, rate = value.partition("=")
    if not equals and name in ("uniform", "windows", "scenes"):
        return value
    if name == "fps" and re.fullmatch(r"\d+(\.\d+)?", rate) and 0.001 <= float(rate) <= 1000:
        return value
    raise ValueError(
        f'"{value}" is not known; choose uniform, windows, scenes, or fps=8 (0.001 to 1000).'
    )


def _parse_text(value: str) -> str:
    if not is_encodable(value):
        raise ValueError("it is not UTF-8 text; type it again.")
    return value


def _parse_layout(value: str) -> str:
    _as_value_error(layout_template, value)
    return value


def _parse_question(value: str) -> str:
    _as_value_error(check_question, value)
    return value


def _refuse_url(value: object) -> object:
    if isinstance(value, str | PurePath):
        _as_value_error(lambda path: refuse_remote(path, "it"), str(value))
    return value


def _parse_data(value: Any, parse: ValidatorFunctionWrapHandler) -> Any:
    return _as_value_error(as_path, value) if is_remote(value) else parse(value)


def _as_value_error(check: Any, value: object) -> Any:
    """`check(value)`, its UsageError turned into the ValueError that pydantic collects."""
    try:
        return check(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Cell = Annotated[tuple[int, int], BeforeValidator(_parse_cell)]
FilePath = Annotated[
    Path,
    Field(strict=False),
    BeforeValidator(_refuse_url),
    AfterValidator(lambda path: Path(expand_home(str(path)))),
]
DataPath = Annotated[
    Path,
    Field(strict=False),
    AfterValidator(lambda path: Path(expand_home(str(path)))),
    WrapValidator(_parse_data),
    PlainSerializer(lambda path: str(path) if is_remote(path) else path),
]
"""A folder on this machine, or a URL."""
ModelName = Annotated[str, Field(min_length=1), AfterValidator(expand_home)]
"""A Hub id, a name of ours, or a path."""
Count = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=10)]
LogitMean = Annotated[float, Field(ge=-100, le=100)]
Fps = Annotated[float, Field(ge=0.001, le=1000)]
Seconds = Annotated[float, Field(ge=0, le=1e7)]
Sampling = Annotated[str, AfterValidator(_parse_sample)]
Text = Annotated[str, AfterValidator(_parse_text)]
Layout = Annotated[Text, AfterValidator(_parse_layout)]
QuestionText = Annotated[Text, AfterValidator(_parse_question)]
