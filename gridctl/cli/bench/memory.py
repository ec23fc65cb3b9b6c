"""`gridctl bench memory`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from gridctl.cli.bench.call import Plot, Quick, bench_app, run_bench, sized
from gridctl.cli.shell import Shell, with_shell

_T = TypeVar("_T")


@bench_app.command("memory", epilog="Example: gridctl bench memory --presets 24gb --ranks 64,256")
@with_shell
def memory(
    shell: Shell,
    presets: Annotated[
        str | None, typer.Option(help="Memory presets.", show_default="12gb,16gb,24gb,48gb,80gb")
    ] = None,
    grids: Annotated[
        str | None, typer.Option(help="Grids, as rows x columns.", show_default="2x4,4x6")
    ] = None,
    batches: Annotated[
        str | None, typer.Option(help="Grids in a forward pass.", show_default="1,4")
    ] = None,
    ranks: Annotated[
        str | None, typer.Option(help="LoRA ranks.", show_default="32,128,256")
    ] = None,
    quick: Quick = False,
    plot: Plot = None,
) -> None:
    """Plan the GPU memory of training for every combination, and measure it where there is a GPU.

    Lists have commas between their values. On a GPU each combination loads a full-size base with
    random weights: 20 seconds, and 60 GB of RAM disk.
    """
    from gridctl.bench.memory import PRESETS, QUICK, MemorySizes, bench_memory

    sizes = sized(
        MemorySizes(),
        QUICK,
        quick=quick,
        presets=_values("--presets", presets, lambda text: PRESETS[PRESETS.index(text)]),
        grids=_values("--grids", grids, _grid),
        batches=_values("--batches", batches, _count),
        ranks=_values("--ranks", ranks, _count),
    )
    run_bench(
        shell,
        lambda _, __, progress: bench_memory(sizes, progress=progress),
        quick=quick,
        repeats=None,
        plot=plot,
        profile=None,
    )


def _values(flag: str, text: str | None, read: Callable[[str], _T]) -> tuple[_T, ...] | None:
    from gridctl.errors import UsageError

    if text is None:
        return None
    try:
        return tuple(read(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{flag} cannot be {text!r}; its --help shows the form.") from error


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _grid(text: str) -> Any:
    rows, cols = map(_count, text.lower().split("x"))
    return rows, cols
