"""`gridctl adapter`: look into LoRA files, and rename their layers for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.flags import command
from gridctl.cli.shell import Shell

if TYPE_CHECKING:
    from gridctl.adapter import AdapterReport

File = Annotated[str, typer.Argument(metavar="FILE", help='LoRA in safetensors, or "tiny-grid".')]


@command()
def adapter_show(shell: Shell, file: File) -> None:
    """With --verbose, the profile that made it is shown too."""
    from gridctl.adapter import describe_adapter

    report = describe_adapter(file)
    data = _facts(report)
    long = {} if shell.verbose else {"profile"}
    lines = [f"{name:<9} {_text(value)}" for name, value in data.items() if name not in long]
    shell.results(lines, data)


@command()
def adapter_convert(
    shell: Shell,
    file: File,
    to: Annotated[
        str,
        typer.Option(
            metavar="diffusers|kohya|comfyui",
            help="Whose names the layers get. diffusers: what gridctl train writes. kohya: "
            "sd-scripts and most web interfaces. comfyui: black-forest-labs' own.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write.", show_default="FILE with -kohya added"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    from typing import get_args

    from gridctl.adapter import Naming, convert_adapter
    from gridctl.errors import UsageError

    if to not in get_args(Naming):
        raise UsageError(f"--to is {to!r}; choose {', '.join(get_args(Naming))}.")
    target = output or Path(f"{Path(file).stem}-{to}.safetensors")
    result = convert_adapter(file, target, to, force=force)  # type: ignore[arg-type]
    if result.unused:
        shell.note(
            f"{len(result.unused)} tensors have no layer in FLUX's transformer and are left out, "
            f"such as {result.unused[0]}"
        )
    shell.results([result.written], {"written": result.written, "layers": result.layers})


def _facts(report: AdapterReport) -> dict[str, Any]:
    data: dict[str, Any] = {
        "file": report.path,
        "bytes": report.bytes,
        "names": report.naming,
        "dtype": report.dtype,
        "rank": [*report.ranks] if len(report.ranks) > 1 else next(iter(report.ranks)),
        "layers": sum(report.ranks.values()),
        "tensors": report.num_tensors,
        "unused": list(report.unused),
    }
    if facts := report.facts:
        data |= {
            "base": facts.base,
            "grid": str(facts.grid),
            "fps": facts.fps,
            "layout": facts.layout_prompt,
            "steps": facts.steps,
            "clips": facts.clips,
            "keep": list(facts.keep),
            "words": list(facts.words),
            "profile": facts.profile,
        }
    return data | {"metadata": report.metadata}


def _text(value: Any) -> str:
    """A value on one line, or indented below its name."""
    if value in (None, [], {}, ""):
        return "none" if value is not None else "unknown"
    if isinstance(value, list):
        return ", ".join(map(str, value[:10])) + (", ..." if len(value) > 10 else "")
    if isinstance(value, dict):
        return "".join(f"\n  {name}: {str(text)[:200]}" for name, text in value.items())
    text = str(value).rstrip()
    return "".join(f"\n  {line}" for line in text.splitlines()) if "\n" in text else text
