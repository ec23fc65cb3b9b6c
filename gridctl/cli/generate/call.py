"""What all generate commands share: their flags, the profile, the run and its report."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.generate.flags import Flag
from gridctl.cli.shell import Shell, with_shell

if TYPE_CHECKING:
    from gridctl.errors import ExitCode, GridctlError
    from gridctl.generate import Drawing, GenerateResult, Request
    from gridctl.generate.prompts import LineReader

generate_app = typer.Typer(
    help="Draw clips and images from prompts and pictures.",
    epilog='Example: gridctl generate t2v "a red circle moving right" -o out.mp4. The built-in '
    "model knows few words; gridctl generate vocabulary lists them.",
    no_args_is_help=True,
)

_RUN = {
    "profile": Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Profile with the settings that flags do not set.",
            show_default=False,
            rich_help_panel="Run",
        ),
    ],
    "num": Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Draw each prompt N times with consecutive seeds, into a folder.",
            show_default="1",
            rich_help_panel="Output",
        ),
    ],
    "best_of": Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Draw each clip with N seeds and keep the one with the best self-checks.",
            show_default="1",
            rich_help_panel="Output",
        ),
    ],
    "dry_run": Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan without loading a model.", rich_help_panel="Run"
        ),
    ],
    "preview": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a picture of the plan (.png) and stop, without loading a model.",
            show_default=False,
            rich_help_panel="Run",
        ),
    ],
    "force": Annotated[
        bool,
        typer.Option("--force", help="Overwrite outputs that exist.", rich_help_panel="Run"),
    ],
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a task's command: the shared flags, as the user set them."""

    shell: Shell
    overrides: dict[str, Any]
    profile: str | None
    num: int | None
    best_of: int | None
    dry_run: bool
    preview: Path | None
    force: bool

    def run(
        self,
        prepare: Callable[[Request], Drawing],
        *,
        prompt: str | None,
        prompts: Path | None,
        output: Path,
        fps: float | None = None,
    ) -> None:
        """Prepare the task and draw it, or show its plan."""
        from gridctl.errors import UsageError
        from gridctl.generate import Request, draw
        from gridctl.generate.prompts import LineReader, PromptLine, requests
        from gridctl.profile import resolve_profile

        if (prompt is None) == (prompts is None):
            raise UsageError("give one prompt, or a file of them with --prompts.")
        stream = str(prompts) == "-"
        reader = LineReader(keys=self._line_keys())
        lines = [PromptLine(text=prompt or "")]
        if prompts and not stream:
            lines = reader.read_file(prompts)
        loaded = resolve_profile(self.profile, fallback="tiny", overrides=self.overrides)
        self.shell.note(loaded.choice)
        grid = loaded.profile.grid.to_grid()
        fields = [key for key, value in self.overrides.items() if value is not None]
        num = self.num or 1
        request = Request(
            prompts=(),
            output=output,
            profile=loaded.profile,
            many=prompts is not None or num > 1,
            insist={
                key.removeprefix("grid."): getattr(grid, key.removeprefix("grid."))
                for key in fields
                if key.startswith("grid.")
            },
            fps=fps,
            best_of=self.best_of or 1,
        )
        if stream:
            raise typer.Exit(self._draw_stream(prepare, reader, request, num))
        drawings = [prepare(one) for one in requests(lines, request, num=num)]
        if self.preview:
            from gridctl.generate.preview import write_preview

            write_preview(drawings[0], self.preview, force=self.force)
            self.shell.results([self.preview], {"preview": self.preview})
        elif self.dry_run:
            from gridctl.generate.remarks import remarks_before_loading

            plans = [drawing.to_json() for drawing in drawings]
            self.shell.results(drawings, {"drawings": plans})
            prompts_of_all = [s.content or s.prompt for d in drawings for s in d.shots]
            known = {word for drawing in drawings for word in drawing.learned}
            for note in remarks_before_loading(loaded.profile, prompts_of_all, learned=known):
                self.shell.note(note)
        else:
            with self._note_when_stopped(), self.shell.progress("draw") as progress:
                result = draw(drawings, force=self.force, progress=progress)
            report(self.shell, result)

    def _line_keys(self) -> set[str]:
        """The keys of [generate] that a line of --prompts may set: those that do something here.

        One model draws all lines, so none of them says whether it is compiled.
        """
        flags = {key.removeprefix("generate.") for key in self.overrides if "generate." in key}
        return flags - {"compile"} | {"fps", "max_mu"}

    @contextmanager
    def _note_when_stopped(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.shell.note("stopped; finished outputs stay, and the same command draws the rest")
            raise

    def _draw_stream(
        self,
        prepare: Callable[[Request], Drawing],
        reader: LineReader,
        request: Request,
        num: int,
    ) -> ExitCode:
        """Draw the prompts of stdin as they come. A line that fails is reported, and others go on.

        With --json, each output and each line that failed is a line of JSON.
        """
        from dataclasses import replace

        from gridctl.errors import ExitCode, GridctlError, UsageError
        from gridctl.generate import draw_stream
        from gridctl.generate.prompts import requests
        from gridctl.generate.run import collect

        if self.dry_run or self.preview:
            raise UsageError("--prompts - draws at once; use a file to see its plan first.")
        prepare(replace(request, prompts=("any prompt",)))  # what no line can mend fails now
        lines: dict[Path, int] = {}  # output → number of its line
        failed = 0

        def fail(number: int, error: GridctlError) -> None:
            nonlocal failed
            failed += 1
            text, where = str(error), f"stdin line {number}"
            text = text if text.startswith(where) else f"{where}: {text}"
            print(f"gridctl: {text}", file=sys.stderr)
            if self.shell.json:
                self.shell.json_line({"line": number, "error": text})

        def groups() -> Iterator[list[Drawing]]:
            drawn = 0
            for group in reader.read_stream(sys.stdin.buffer, fail):
                drawings = []
                for line in group:
                    (one,) = requests([line], request, num=num, before=drawn)
                    drawn += num
                    try:
                        drawings.append(prepare(one))
                    except GridctlError as error:
                        fail(line.number, error)
                    else:
                        lines.update((shot.output, line.number) for shot in drawings[-1].shots)
                yield drawings

        def fail_drawing(drawing: Drawing, error: GridctlError) -> None:
            fail(lines[drawing.shots[0].output], error)

        done = 0
        with self._note_when_stopped():
            for output in draw_stream(groups(), force=self.force, on_error=fail_drawing):
                done += 1
                report(self.shell, collect([output]), line=lines[output.path])
        if not failed:
            return ExitCode.DONE
        return ExitCode.PARTIAL if done else ExitCode.FAILED


def report(shell: Shell, result: GenerateResult, *, line: int | None = None) -> None:
    """Print what was written, with notes and the checks that failed.

    `line` is the number of a stream's line, of which `result` is an output.
    """
    from gridctl.errors import counted

    for note in result.notes:
        shell.note(note)
    for path, checks in result.checks.items():
        for check in checks.failed:
            shell.note(f"{path}: {check}")
    if result.skipped:
        shell.note(
            f"{counted(len(result.skipped), 'output')} skipped, drawn before from the same prompt "
            "and settings; --force draws again."
        )
    data = {
        "written": list(result.written),
        "skipped": list(result.skipped),
        "checks": {str(path): checks.to_json() for path, checks in result.checks.items()},
    }
    if line is None:
        shell.results(result.written, data)
    elif shell.json:
        shell.json_line({"line": line, **data})
    else:
        shell.results(result.written, data)
        sys.stdout.flush()


def task_command(*groups: tuple[Flag, ...]) -> Callable[[Callable[..., None]], Any]:
    """Register a task's command under its function's name.

    Its first parameter, a `Call`, is replaced by the flags of `groups` and those of all tasks.
    """
    flags = [flag for group in groups for flag in group]

    def register(command: Callable[..., None]) -> Any:
        @functools.wraps(command)
        def wrapper(shell: Shell, **arguments: Any) -> None:
            overrides = {flag.key: arguments.pop(flag.name) for flag in flags}
            run = {name: arguments.pop(name) for name in _RUN}
            command(Call(shell=shell, overrides=overrides, **run), **arguments)

        signature = inspect.signature(command, eval_str=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        shell = inspect.Parameter("shell", keyword, annotation=Shell)
        own = [p.replace(kind=keyword) for p in list(signature.parameters.values())[1:]]
        annotations = {flag.name: flag.annotation for flag in flags} | _RUN
        shared = [
            inspect.Parameter(
                name,
                keyword,
                default=False if name in ("dry_run", "force") else None,
                annotation=annotation,
            )
            for name, annotation in annotations.items()
        ]
        wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[shell, *own, *shared]
        )
        return generate_app.command(command.__name__)(with_shell(wrapper))

    return register
