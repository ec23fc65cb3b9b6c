"""`gridctl caption`: grid images → a caption beside each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.flags import command, flags
from gridctl.cli.shell import Shell, one_line, report
from gridctl.errors import GridctlError, counted
from gridctl.profile import LoadedProfile
from gridctl.storage import as_path

if TYPE_CHECKING:
    from gridctl.caption import CaptionResult, CheckResult


@command(flags("caption"))
def caption(
    shell: Shell,
    loaded: LoadedProfile,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Dataset folders or grid images. May be s3:// or gs://.",
            show_default=False,
            parser=as_path,
            metavar="SOURCES",
        ),
    ],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel="Run", help="Show three captions. Write nothing."
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", rich_help_panel="Run", help="Check existing captions instead of writing."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel="Run", help="Replace existing captions.")
    ] = False,
) -> None:
    """A caption is the layout prompt and then the content, which says what the grid
    shows. The content comes from --mapping, else from the text that lay beside the
    clip when it was packed, else from --subject, else from the words of the clip's
    name. With --backend vlm or --server, a model describes what it sees.

    Existing captions are kept. You can edit them: run the command again, and
    metadata.jsonl is updated.
    """
    from gridctl import caption as verb

    shell.note(loaded.choice)
    profile = verb.apply_flags(loaded.profile)
    if check:
        with shell.progress("check") as progress:
            _report_check(shell, verb.check(sources, profile, progress=progress))
        return
    with shell.progress("caption", resumes="grids", lines=True) as progress:
        result = verb.caption(sources, profile, force=force, dry_run=dry_run, progress=progress)
    _note_result(shell, result)
    if dry_run:
        _show_previews(shell, result)
    else:
        report(shell, result, verb="captioned")


def _note_result(shell: Shell, result: CaptionResult) -> None:
    if result.written:
        done, seconds = len(result.written), result.seconds
        shell.note(
            f"{counted(done, 'caption')} in {seconds:.1f} s, {done / seconds:.1f} per second"
        )
    if result.shortened:
        cut = counted(len(result.shortened), "caption")
        shell.note(f"{cut} cut to the {result.limit}, such as {result.shortened[0]}")
    if result.unused:
        names = counted(len(result.unused), "name")
        shell.note(f"{names} in the mapping match no grid, such as {result.unused[0]}")


def _show_previews(shell: Shell, result: CaptionResult) -> None:
    lines: list[str] = []
    asked: str | None = None
    for preview in result.previews:
        if preview.question and preview.question != asked:
            asked = preview.question
            lines.append(f"question: {asked}")
        lines.append(f"{preview.image}: {preview.caption}")
    shell.results(
        lines,
        [{"image": p.image, "caption": p.caption, "question": p.question} for p in result.previews],
    )
    shell.note(
        f"dry run: nothing is written; {counted(len(result.skipped), 'caption')} exist already"
    )
    for failure in result.failed:
        shell.note(f"would fail: {one_line(failure.reason)}")


def _report_check(shell: Shell, result: CheckResult) -> None:
    shell.results(
        [f"{finding.path}: {finding.fault}" for finding in result.findings],
        {
            "grids": result.grids,
            "findings": [{"path": f.path, "fault": f.fault} for f in result.findings],
        },
    )
    if result.findings:
        faulty = len({finding.path for finding in result.findings})
        raise GridctlError(
            f"{faulty} of {result.grids} captions have a fault; edit the .txt, or run "
            "gridctl caption again."
        )
    shell.note(f"{result.grids} captions checked, no fault")
