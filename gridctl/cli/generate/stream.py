"""`--prompts -`: prompts from standard input, drawn as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.cli.generate.report import (
    note_result,
    note_skipped,
    note_when_stopped,
    result_json,
)
from gridctl.cli.shell import Shell

if TYPE_CHECKING:
    from gridctl.errors import ExitCode, GridctlError
    from gridctl.generate import Job, OutputResult, Request
    from gridctl.generate.prompts import LineReader


@dataclass(kw_only=True)
class Stream:
    """A stream of prompts, each drawn `num` times.

    A line that fails is reported, and the others are drawn. With --json, each output and each
    line that fails is a line of JSON.
    """

    shell: Shell
    prepare: Callable[[Request], Job]
    request: Request
    num: int
    lines: dict[Path, int] = field(default_factory=dict)  # output → number of its line
    done: int = 0
    skipped: int = 0
    failed: int = 0

    def draw(self, reader: LineReader, *, force: bool) -> ExitCode:
        """Draw until the stream ends. Raises what no line can mend before the first is read."""
        from gridctl.errors import ExitCode, UsageError
        from gridctl.generate import draw_stream

        if sys.stdin is None:
            raise UsageError("stdin is closed; send prompts to it, or give a file.")
        self.prepare(replace(self.request, prompts=("any prompt",)))
        if sys.stdin.isatty():
            self.shell.note("write one prompt per line; Ctrl-D ends")
        with note_when_stopped(self.shell):
            for output in draw_stream(self._jobs(reader), force=force, on_error=self._fail_job):
                self._report(output)
        note_skipped(self.shell, self.skipped)
        if not self.failed:
            return ExitCode.DONE
        return ExitCode.PARTIAL if self.done else ExitCode.FAILED

    def _jobs(self, reader: LineReader) -> Iterator[list[Job]]:
        """A job for each line, those of lines that come together as a group."""
        from gridctl.errors import GridctlError
        from gridctl.generate.prompts import requests

        for lines in reader.read_stream(sys.stdin.buffer, self._fail):
            group = []
            for line in lines:
                before = (line.place - 1) * self.num
                (request,) = requests([line], self.request, num=self.num, before=before)
                try:
                    job = self.prepare(request)
                except GridctlError as error:
                    self._fail(line.number, error)
                else:
                    group.append(job)
                    self.lines.update((output.path, line.number) for output in job.outputs)
            yield group

    def _report(self, output: OutputResult) -> None:
        from gridctl.generate import GenerateResult

        result = GenerateResult.collect([output])
        self.done += 1
        self.skipped += len(result.skipped)
        note_result(self.shell, result)
        if self.shell.json:
            self.shell.json_line({"line": self.lines[output.path], **result_json(result)})
        else:
            self.shell.results(result.written, None)
            sys.stdout.flush()

    def _fail_job(self, job: Job, error: GridctlError) -> None:
        self._fail(self.lines[job.outputs[0].path], error)

    def _fail(self, number: int, error: GridctlError) -> None:
        self.failed += 1
        text, where = str(error), f"stdin line {number}"
        text = text if text.startswith(where) else f"{where}: {text}"
        print(f"gridctl: {text}", file=sys.stderr)
        if self.shell.json:
            self.shell.json_line({"line": number, "error": text})
