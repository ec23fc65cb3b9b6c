"""A call of `gridctl generate`: the flags of all its tasks, the run, its report, and streams."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.flags import Flag, command
from gridctl.cli.shell import Shell
from gridctl.errors import ExitCode, GridctlError, UsageError, counted
from gridctl.profile import LoadedProfile

if TYPE_CHECKING:
    from gridctl.generate import GenerateResult, Job, OutputResult, Request
    from gridctl.generate.prompts import LineReader


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a task's command: the flags that all tasks have.

    `line_keys` are the keys of [generate] that a line of --prompts may set.
    """

    shell: Shell
    loaded: LoadedProfile
    line_keys: frozenset[str]
    num: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Draw each prompt N times with consecutive seeds, into a folder.",
            rich_help_panel="Output",
        ),
    ] = 1
    best_of: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Draw each clip with N seeds and keep the one with the best self-checks.",
            rich_help_panel="Output",
        ),
    ] = 1
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan without loading a model.", rich_help_panel="Run"
        ),
    ] = False
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a picture of the plan (.png) and stop, without loading a model.",
            show_default=False,
            rich_help_panel="Run",
        ),
    ] = None
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite outputs that exist.", rich_help_panel="Run"),
    ] = False

    def run(
        self,
        task: Callable[[Request], Job],
        *,
        prompt: str | None,
        prompts: Path | None = None,
        output: Path,
    ) -> None:
        """Plan the task and draw it, or show its plan."""
        from gridctl.generate import Request, draw
        from gridctl.generate.prompts import LineReader, PromptLine, requests

        if (prompt is None) == (prompts is None):
            raise UsageError("give one prompt, or a file of them with --prompts.")
        reader = LineReader(keys=self.line_keys)
        lines = [PromptLine(text=prompt or "")]
        if prompts and str(prompts) != "-":
            lines = reader.read_file(prompts)
        shell = self.shell
        shell.note(self.loaded.choice)
        request = Request(
            prompts=(),
            output=output,
            profile=self.loaded.profile,
            many=prompts is not None or self.num > 1,
            best_of=self.best_of,
        )
        if str(prompts) == "-":
            if self.dry_run or self.preview:
                raise UsageError("--prompts - draws at once; use a file to see its plan first.")
            stream = _Stream(shell=shell, task=task, request=request, num=self.num)
            raise typer.Exit(stream.draw(reader, force=self.force))
        jobs = [task(one) for one in requests(lines, request, num=self.num)]
        if self.preview:
            from gridctl.generate.preview import write_preview

            write_preview(jobs[0], self.preview, force=self.force)
            shell.results([self.preview], {"preview": self.preview})
        elif self.dry_run:
            shell.results(jobs, {"jobs": [job.to_json() for job in jobs]})
            for warning in dict.fromkeys(text for job in jobs for text in job.warnings):
                shell.note(warning)
        else:
            with _note_when_stopped(shell), shell.progress("draw") as progress:
                result = draw(jobs, force=self.force, progress=progress)
            report_result(shell, result)


def task_command(*groups: list[Flag]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function (call, parameters): the `Call` has the flags of all tasks."""
    keys = {flag.row.key for group in groups for flag in group if flag.key.startswith("generate.")}
    # One model draws all lines, so none of them says whether it is compiled.
    line_keys = frozenset(keys - {"compile"} | {"max_mu"})

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = list(inspect.signature(Call, eval_str=True).parameters.values())[3:]

        @functools.wraps(function)
        def wrapper(shell: Shell, loaded: LoadedProfile, **arguments: Any) -> None:
            mine = {parameter.name: arguments.pop(parameter.name) for parameter in own}
            call = Call(shell=shell, loaded=loaded, line_keys=line_keys, **arguments)
            function(call, **mine)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared)]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command(*groups, fallback="tiny")(wrapper)

    return decorate


def report_result(shell: Shell, result: GenerateResult) -> None:
    """Print what was written, with warnings and the checks that failed."""
    _note_result(shell, result)
    _note_skipped(shell, len(result.skipped))
    shell.results(result.written, _to_json(result))


def _to_json(result: GenerateResult) -> dict[str, Any]:
    return {
        "written": list(result.written),
        "skipped": list(result.skipped),
        "checks": {str(path): checks.to_json() for path, checks in result.checks.items()},
    }


def _note_result(shell: Shell, result: GenerateResult) -> None:
    for warning in result.warnings:
        shell.note(warning)
    for path, checks in result.checks.items():
        for check in checks.failed:
            shell.note(f"{path}: {check}")


def _note_skipped(shell: Shell, count: int) -> None:
    if count:
        shell.note(
            f"{counted(count, 'output')} skipped, drawn before from the same prompt "
            "and settings; --force draws again."
        )


@contextmanager
def _note_when_stopped(shell: Shell) -> Iterator[None]:
    """Say what a Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        shell.note("stopped; finished outputs stay, and the same command draws the rest")
        raise


@dataclass(kw_only=True)
class _Stream:
    """Prompts from standard input, each drawn `num` times as it comes.

    A line that fails is reported, and the others are drawn. With --json, each output and each
    line that fails is a line of JSON.
    """

    shell: Shell
    task: Callable[[Request], Job]
    request: Request
    num: int
    lines: dict[Path, int] = field(default_factory=dict)  # output → number of its line
    done: int = 0
    skipped: int = 0
    failed: int = 0

    def draw(self, reader: LineReader, *, force: bool) -> ExitCode:
        """Draw until the stream ends. Raises what no line can mend before the first is read."""
        from gridctl.generate import draw_stream

        if sys.stdin is None:
            raise UsageError("stdin is closed; send prompts to it, or give a file.")
        self.task(replace(self.request, prompts=("any prompt",)))
        if sys.stdin.isatty():
            self.shell.note("write one prompt per line; Ctrl-D ends")
        with _note_when_stopped(self.shell):
            for output in draw_stream(self._jobs(reader), force=force, on_error=self._fail_job):
                self._report(output)
        _note_skipped(self.shell, self.skipped)
        if not self.failed:
            return ExitCode.DONE
        return ExitCode.PARTIAL if self.done else ExitCode.FAILED

    def _jobs(self, reader: LineReader) -> Iterator[list[Job]]:
        """A job for each line, those of lines that come together as a group."""
        from gridctl.generate.prompts import requests

        for lines in reader.read_stream(sys.stdin.buffer, self._fail):
            group = []
            for line in lines:
                before = (line.place - 1) * self.num
                (request,) = requests([line], self.request, num=self.num, before=before)
                try:
                    job = self.task(request)
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
        _note_result(self.shell, result)
        if self.shell.json:
            self.shell.json_line({"line": self.lines[output.path], **_to_json(result)})
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
