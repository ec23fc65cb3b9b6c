"""What all commands share: where output goes, common flags, and the look of help pages.

Results go to stdout, everything else to stderr. Progress bars appear only on a terminal.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup
from typer.models import OptionInfo, ParameterInfo

from gridctl.cli import complete
from gridctl.files import expand_home
from gridctl.progress import Progress, silent
from gridctl.storage import is_remote, refuse_remote

LINE_SECONDS = 30.0  # between lines of progress in a log


@dataclass(frozen=True, kw_only=True)
class Shell:
    """How this call prints."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False

    def note(self, text: str) -> None:
        """Print on stderr what is not a result."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def detail(self, text: str) -> None:
        """Print on stderr what only `--verbose` shows."""
        if self.verbose:
            print(text, file=sys.stderr)

    def results(self, lines: Sequence[object], data: object) -> None:
        """Print results on stdout, one per line, or `data` as JSON with `--json`."""
        if self.json:
            print(json.dumps(data, indent=2, default=str, ensure_ascii=False))
        else:
            for line in lines:  # for other programs, names stay as they are
                is_shown = isinstance(line, Path) and sys.stdout.isatty()
                print(one_line(str(line)) if is_shown else line)

    def json_line(self, data: object) -> None:
        """Print `data` on stdout as one line of JSON at once, for results that come as a stream."""
        print(json.dumps(data, default=str, ensure_ascii=False), flush=True)

    @contextmanager
    def progress(
        self, label: str, *, resumes: str | None = None, lines: bool = False
    ) -> Iterator[Progress]:
        """Yield a callback (done, total, text) that draws a bar on a terminal.

        Where there is none, `lines` prints a line now and then: for commands that take hours.
        `resumes` names what is counted by a command that continues when it is run again. If it
        is stopped, a note says so.
        """
        state = (0, 0)

        def watch(done: int, total: int, text: str) -> None:
            nonlocal state
            state = (done, total)
            show(done, total, text)

        try:
            with self._bar(label, lines=lines) as show:
                yield watch
        except (KeyboardInterrupt, SystemExit):
            if resumes:
                self.note(
                    f"stopped after {state[0]:,} of {state[1]:,} {resumes}; run the same command "
                    "again to continue"
                )
            raise

    @contextmanager
    def _bar(self, label: str, *, lines: bool) -> Iterator[Progress]:
        if self.quiet or not sys.stderr.isatty():
            yield progress_lines(label) if lines and not self.quiet else silent
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=None, count="", text="preparing")
            yield lambda done, total, text: bar.update(
                task,
                completed=done,
                total=total,
                count=f"{done}/{total}",
                text=text,
                refresh=True,
            )


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, which a file's name may have."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) == "Cc" else char
        for char in text
    )


def progress_lines(label: str, *, seconds: float = LINE_SECONDS) -> Progress:
    """A progress callback that prints a line at most every `seconds`, with the time left."""
    last = began = time.monotonic()
    phase, first = "", 0

    def show(done: int, total: int, text: str) -> None:
        nonlocal last, began, phase, first
        now, kind = time.monotonic(), text.partition(" ")[0]
        if kind != phase:  # another phase counts from its own start
            began, phase, first = now, kind, done
        if now - last < seconds:
            return
        last = now
        left = ""
        if done > first:
            remaining = timedelta(seconds=round((now - began) / (done - first) * (total - done)))
            left = f", {remaining} left"
        print(f"{label}: {done}/{total} {text}{left}".rstrip(), file=sys.stderr)

    return show


class Group(TyperGroup):
    """A group of commands whose help page shows flags without a type."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


def with_shell(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's first parameter `shell` by the flags that all commands have."""
    flags = {
        "json": _general("--json", help="Print results as JSON."),
        "quiet": _general("--quiet", "-q", help="Print only results and errors."),
        "verbose": _general("--verbose", help="Print more details on stderr."),
        "traceback": _general("--traceback", help="Show the Python traceback of an error."),
        "help": _general(
            "--help", "-h", help="Show this page and exit.", is_eager=True, callback=_print_help
        ),
    }

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in flags}
        del given["help"]
        del given["traceback"]  # __main__ reads it: an error may come before this point
        command(Shell(**given), **{name: _at_home(name, arguments[name]) for name in arguments})

    signature = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=False, annotation=Annotated[bool, option])
        for name, option in flags.items()
    ]
    own = [p.replace(kind=keyword) for p in list(signature.parameters.values())[1:]]
    for parameter in (*own, *shared):
        _tidy(parameter.name, parameter.annotation)
    wrapper.__doc__ = _as_paragraphs(command.__doc__ or "")
    wrapper.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
    return wrapper


_COMPLETERS = {"profile": complete.profiles, "order": complete.choices("grid.order")}
_general = functools.partial(typer.Option, rich_help_panel="General")


def _print_help(context: typer.Context, asked: bool) -> None:
    if asked:
        context.get_help()  # Typer prints the page itself
        raise typer.Exit()


def _tidy(name: str, annotation: Any) -> None:
    """Show flags without a type and defaults without parentheses, and complete common options."""
    kind, *rest = get_args(annotation) or (annotation,)
    for info in rest:
        if isinstance(info, ParameterInfo):
            info.readable = False  # Typer's check; the commands' own errors say more
            info.autocompletion = info.autocompletion or _COMPLETERS.get(name)
        if isinstance(info, OptionInfo) and kind is bool:
            info.metavar = ""
        if isinstance(info, ParameterInfo) and isinstance(info.show_default, str):
            info.help = f"{info.help} \\[default: {info.show_default}]"
            info.show_default = False


def _as_paragraphs(text: str) -> str:
    """Join the lines of each paragraph: Typer keeps line breaks, which look odd at other widths."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _at_home(name: str, value: Any) -> Any:
    """A path with its `~` expanded, which shells do not do in --output=~/name."""
    if is_remote(value):
        if name == "output" and isinstance(value, str):
            refuse_remote(value, "this output")
        return value
    if isinstance(value, Path):
        refuse_remote(value, "this path")
        return Path(expand_home(str(value)))
    if isinstance(value, str) and name == "output":  # a trailing slash has a meaning there
        return expand_home(value)
    if isinstance(value, list):
        return [_at_home(name, item) for item in value]
    return value
