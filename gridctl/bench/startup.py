"""How long `gridctl --help` takes, next to a Typer app with six commands that do nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gridctl.bench.pack import take_turns
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


@dataclass(frozen=True, kw_only=True)
class StartupBench:
    """Median seconds to print a help page, for gridctl and for the bare app."""

    arguments: str
    gridctl_seconds: float
    bare_seconds: float

    @property
    def ratio(self) -> float:
        """gridctl's time over the bare app's."""
        return self.gridctl_seconds / self.bare_seconds


def bench_startup(
    *, repeats: int = 11, progress: Progress | None = None
) -> tuple[StartupBench, ...]:
    """Time `--help` and `pack --help`, each `repeats` times, in turns."""
    with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE_APP, encoding="utf-8")
        results = []
        for arguments in (["--help"], ["pack", "--help"]):
            gridctl = [sys.executable, "-m", "gridctl", *arguments]
            bare = [sys.executable, str(script), *arguments]
            times = take_turns(
                {
                    "gridctl": lambda command=gridctl: _run(command),  # type: ignore[misc]
                    "bare": lambda command=bare: _run(command),  # type: ignore[misc]
                },
                repeats,
                progress,
            )
            results.append(
                StartupBench(
                    arguments=" ".join(arguments),
                    gridctl_seconds=times["gridctl"],
                    bare_seconds=times["bare"],
                )
            )
    return tuple(results)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
