"""Shell manners shared by all commands: where output goes and who wants to see it.

Results go to stdout, everything else to stderr; progress bars only on a terminal.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gridctl.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class Shell:
    """What the user asked of gridctl's manners on this call."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False

    def note(self, text: str) -> None:
        """Tell something on stderr that is not a result."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def detail(self, text: str) -> None:
        """Tell something on stderr that only `--verbose` asks for."""
        if self.verbose:
            print(text, file=sys.stderr)

    def results(self, lines: Sequence[object], data: object) -> None:
        """Print results on stdout: one per line, or `data` as JSON with `--json`."""
        if self.json:
            print(json.dumps(data, indent=2, default=str, ensure_ascii=False))
        else:
            for line in lines:
                print(line)

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Yield a callback (done, total, text) that draws a bar on a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield silent
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=None, text="")
            yield lambda done, total, text: bar.update(
                task, completed=done, total=total, text=text, refresh=True
            )


def with_shell(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's first parameter `shell` by the flags that all commands have."""
    flags = {
        "json": Annotated[bool, typer.Option("--json", help="Print results as JSON.")],
        "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")],
        "verbose": Annotated[bool, typer.Option("--verbose", help="Tell more on stderr.")],
        "traceback": Annotated[
            bool, typer.Option("--traceback", help="Show the Python traceback of an error.")
        ],
    }

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in flags}
        del given["traceback"]  # __main__ reads it: an error may come before this point
        command(Shell(**given), **arguments)

    signature = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=False, annotation=annotation)
        for name, annotation in flags.items()
    ]
    own = [p.replace(kind=keyword) for p in list(signature.parameters.values())[1:]]
    wrapper.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
    return wrapper
