"""Output of all commands: results, notes, progress, and the report of those that take many files.

Results go to stdout, everything else to stderr. Progress bars appear only on a terminal.
"""

from __future__ import annotations

import json
import re
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from gridctl.errors import GridctlError, PartialError, counted
from gridctl.progress import FilesResult, Progress, silent

LINE_SECONDS = 30.0  # between lines of progress in a log
_MANY = 20  # kinds of lines to print; more are only counted
_OF_A_KIND = 2  # lines to print of those that differ only in names and numbers


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


def report(
    shell: Shell, result: FilesResult, *, verb: str, data: Mapping[str, Any] | None = None
) -> None:
    """Print what was written, with `data` added to the JSON. Raise if something failed.

    The failure of a single input is raised as it is. Many failures become lines on stderr, of
    which those that say the same are counted. Then PartialError is raised (exit code 3), or
    GridctlError (1) if nothing is done.
    """
    shell.results(
        result.written,
        {
            "written": [str(path) for path in result.written],
            "skipped": [str(path) for path in result.skipped],
            "failed": [{"path": str(f.path), "reason": f.reason} for f in result.failed],
            "notes": list(result.notes),
            **(data or {}),
        },
    )
    for line in grouped([(f"{note}.", "") for note in result.notes]):
        shell.note(line)
    if result.skipped:
        shell.note(
            f"{counted(len(result.skipped), 'output')} skipped, made before from the same inputs; "
            "--force makes them again."
        )
    if not result.failed:
        return
    done = len(result.written) + len(result.skipped)
    if not done and len(result.failed) == 1:
        raise GridctlError(one_line(result.failed[0].reason))
    for line in grouped([(failure.reason, str(failure.path)) for failure in result.failed]):
        print(f"gridctl: {line}", file=sys.stderr)
    total = done + len(result.failed)
    if not done:
        raise GridctlError(f"none of {total:,} could be {verb}; the lines above say why.")
    raise PartialError(
        f"{len(result.failed):,} of {total:,} could not be {verb}; the rest are done."
    )


def grouped(messages: Sequence[tuple[str, str]]) -> list[str]:
    """Lines for messages, each with the path that it is about, if it is known.

    Of those that differ only in names and numbers, the first ones are shown and the rest counted.
    """
    kinds: dict[str, list[str]] = {}
    for text, path in messages:
        kinds.setdefault(_kind(text, path), []).append(one_line(text))
    lines: list[str] = []
    for alike in list(kinds.values())[:_MANY]:
        shown = alike if len(alike) <= _OF_A_KIND + 1 else alike[:_OF_A_KIND]
        lines += shown
        if left := len(alike) - len(shown):
            lines.append(f"... and {left:,} more like this; --json lists all.")
    if left := sum(len(alike) for alike in list(kinds.values())[_MANY:]):
        lines.append(f"... and {left:,} others; --json lists all.")
    return lines


def _kind(text: str, path: str) -> str:
    """A message without the names and numbers in it."""
    for name in {path, path.rpartition("/")[2]} - {""}:
        text = text.replace(name, "")
    return re.sub(r"\S*[/\\]\S*|\S+\.\w+|\d+", "", text)
