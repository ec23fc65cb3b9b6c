"""What a value of a profile may be, beyond its type: sizes, templates, limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from gridctl.errors import UsageError
from gridctl.geometry import Grid, parse_size
from gridctl.prompt import check_question, layout_template


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
    if not re.fullmatch(r"uniform|windows|scenes|fps=\d+(\.\d+)?", value):
        raise ValueError(f'"{value}" is not known; choose uniform, windows, scenes, or fps=8.')
    return value


def _parse_layout(value: str) -> str:
    _as_value_error(layout_template, value)
    return value


def _parse_question(value: str) -> str:
    _as_value_error(check_question, value)
    return value


def _as_value_error(check: Any, value: object) -> Any:
    """`check(value)`, its UsageError turned into the ValueError that pydantic collects."""
    try:
        return check(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Cell = Annotated[tuple[int, int], BeforeValidator(_parse_cell)]
FilePath = Annotated[Path, Field(strict=False)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Sampling = Annotated[str, AfterValidator(_parse_sample)]
Layout = Annotated[str, AfterValidator(_parse_layout)]
Question = Annotated[str, AfterValidator(_parse_question)]
