"""Tables of how much each benchmark measures: the full run, and the quick one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from gridctl.profile import PRESETS
from gridctl.profile.settings import Choice, Count, Limits, Parser, Section, setting

GPU_PRESETS = tuple(name for name, preset in PRESETS.items() if preset.card_gib)


@dataclass(frozen=True, kw_only=True)
class PackSizes(Section):
    """How much is packed. `size` is (width, height)."""

    clips: Count = setting(8, "Number of 720p clips to make and pack.", panel="Size")
    frames: Annotated[int, Limits(ge=24, le=10**9)] = setting(
        390, "Number of frames in each clip.", panel="Size"
    )
    minutes: Annotated[float, Limits(ge=0.05, le=1e6)] = setting(
        40.0, "Length of the long clip.", unit="minutes", panel="Size"
    )
    names: Annotated[int, Limits(ge=10, le=10**9)] = setting(
        100_000, "Number of empty files to list, to see if time grows linearly.", panel="Size"
    )
    size: tuple[int, int] = (1280, 720)


@dataclass(frozen=True, kw_only=True)
class CaptionSizes(Section):
    """How much is captioned, and how busy the server is."""

    grids: Count = setting(1000, "Number of grids to make and caption.", panel="Size")
    answer_seconds: Annotated[float, Limits(ge=0.001, le=1e6)] = setting(
        0.2, "Time that the server takes for an answer.", unit="seconds", panel="Size"
    )
    concurrency: Count = setting(8, "Number of requests at the same time.", panel="Size")


@dataclass(frozen=True, kw_only=True)
class TrainSizes(Section):
    """How much is encoded and trained. `cache_rounds` is how often encoding is measured."""

    grids: Count = setting(1000, "Number of grids to encode into a cache.", panel="Size")
    batch: Count | None = setting(
        None, "Grids in a training step. Unset is the profile's.", panel="Size"
    )
    cache_rounds: int = 1


@dataclass(frozen=True, kw_only=True)
class GenerateSizes(Section):
    """How much is drawn."""

    steps: Count | None = setting(
        None, "Number of sampling steps. Unset is the profile's.", panel="Size"
    )


def _listed(read: Callable[[str], Any]) -> Parser:
    """A parser of values with commas between them."""

    def parse(text: Any) -> Any:
        try:
            return tuple(read(part.strip()) for part in text.split(","))
        except ValueError:
            raise ValueError(f'"{text}" is not a list; the help page shows the form.') from None

    return Parser(parse=parse)


def _grid(text: str) -> tuple[int, int]:
    rows, cols = map(int, text.lower().split("x"))
    if min(rows, cols) < 1:
        raise ValueError(text)
    return rows, cols


_PRESETS, _NUMBERS, _GRIDS = _listed(str), _listed(int), _listed(_grid)


@dataclass(frozen=True, kw_only=True)
class MemorySizes(Section):
    """The combinations to plan. A grid is (rows, cols) of 256x256 cells."""

    presets: Annotated[tuple[Annotated[str, Choice(GPU_PRESETS)], ...], _PRESETS] = setting(
        GPU_PRESETS, "Memory presets.", panel="Size", metavar="LIST"
    )
    grids: Annotated[tuple[tuple[int, int], ...], _GRIDS] = setting(
        ((2, 4), (4, 6)), "Grids, as rows x columns.", panel="Size", metavar="LIST"
    )
    batches: Annotated[tuple[Count, ...], _NUMBERS] = setting(
        (1, 4), "Grids in a forward pass.", panel="Size", metavar="LIST"
    )
    ranks: Annotated[tuple[Count, ...], _NUMBERS] = setting(
        (32, 128, 256), "LoRA ranks.", panel="Size", metavar="LIST"
    )


QUICK: dict[type[Section], Any] = {
    PackSizes: PackSizes(clips=1, frames=48, minutes=0.25, names=1000, size=(320, 192)),
    CaptionSizes: CaptionSizes(grids=40, answer_seconds=0.05),
    TrainSizes: TrainSizes(grids=12, cache_rounds=2, batch=2),
    GenerateSizes: GenerateSizes(steps=2),
    MemorySizes: MemorySizes(
        presets=("24gb", "80gb"), grids=((4, 6),), batches=(1,), ranks=(64, 256)
    ),
}
