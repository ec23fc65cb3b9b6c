"""What all generate commands share: their flags, the profile, the run and its report."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.generate.flags import Flag
from gridctl.cli.generate.report import note_when_stopped, report
from gridctl.cli.generate.stream import Stream
from gridctl.cli.shell import Shell, with_shell

if TYPE_CHECKING:
    from gridctl.generate import Job, Request

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
        prepare: Callable[[Request], Job],
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
        num = self.num or 1
        request = Request(
            prompts=(),
            output=output,
            profile=loaded.profile,
            many=prompts is not None or num > 1,
            fps=fps,
            best_of=self.best_of or 1,
        )
        if stream:
            if self.dry_run or self.preview:
                raise UsageError("--prompts - draws at once; use a file to see its plan first.")
            drawn = Stream(shell=self.shell, prepare=prepare, request=request, num=num)
            raise typer.Exit(drawn.draw(reader, force=self.force))
        jobs = [prepare(one) for one in requests(lines, request, num=num)]
        if self.preview:
            from gridctl.generate.preview import write_preview

            write_preview(jobs[0], self.preview, force=self.force)
            self.shell.results([self.preview], {"preview": self.preview})
        elif self.dry_run:
            self.shell.results(jobs, {"jobs": [job.to_json() for job in jobs]})
            for warning in dict.fromkeys(text for job in jobs for text in job.warnings):
                self.shell.note(warning)
        else:
            with note_when_stopped(self.shell), self.shell.progress("draw") as progress:
                result = draw(jobs, force=self.force, progress=progress)
            report(self.shell, result)

    def _line_keys(self) -> set[str]:
        """The keys of [generate] that a line of --prompts may set: those that do something here.

        One model draws all lines, so none of them says whether it is compiled.
        """
        flags = {key.removeprefix("generate.") for key in self.overrides if "generate." in key}
        is_clip = "size" not in flags
        return flags - {"compile"} | {"max_mu"} | ({"fps"} if is_clip else set())


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
