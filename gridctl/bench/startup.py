"""`gridctl bench startup`: `--help` compared with a Typer app with six empty commands."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from gridctl.bench.harness import Candidate, Report, compare, run_command
from gridctl.progress import Progress

# The same six names, and options of the same kinds, without any of gridctl's code.
BARE_APP = '''
from pathlib import Path
from typing import Annotated, Optional
import typer

app = typer.Typer(no_args_is_help=True)

def command(
    sources: Annotated[list[Path], typer.Argument(help="Files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to.")] = Path("out"),
    rows: Annotated[Optional[int], typer.Option(help="Rows.")] = None,
    cols: Annotated[Optional[int], typer.Option(help="Columns.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Do nothing."""

for name in ("pack", "caption", "train", "generate", "unpack", "bench"):
    app.command(name)(command)

app()
'''


def bench_startup(*, repeats: int = 11, progress: Progress | None = None) -> Report:
    """Time `--help` and `pack --help`, each in a fresh interpreter."""
    with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE_APP, encoding="utf-8")
        comparisons = []
        for page in (["--help"], ["pack", "--help"]):
            commands = {
                "gridctl": [sys.executable, "-m", "gridctl", *page],
                "bare Typer app": [sys.executable, str(script), *page],
            }
            candidates = [
                Candidate(name=name, work=partial(run_command, command), target=target)
                for (name, command), target in zip(commands.items(), (None, 1.5), strict=True)
            ]
            comparisons.append(
                compare(" ".join(page), candidates, repeats=repeats, warmups=1, progress=progress)
            )
    return Report(
        bench="startup",
        about="gridctl's help pages compared with those of a bare Typer app with six commands",
        comparisons=tuple(comparisons),
    )
