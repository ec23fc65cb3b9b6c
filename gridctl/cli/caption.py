"""`gridctl caption`: grid images → a caption beside each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli import complete
from gridctl.cli.batch import report
from gridctl.cli.shell import Shell, one_line
from gridctl.errors import GridctlError, counted
from gridctl.storage import as_path

if TYPE_CHECKING:
    from gridctl.caption import CaptionResult, CheckResult

_content = partial(typer.Option, rich_help_panel="Content")
_model = partial(typer.Option, rich_help_panel="Model")
_server = partial(typer.Option, rich_help_panel="Server")
_run = partial(typer.Option, rich_help_panel="Run")


def caption(
    shell: Shell,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Dataset folders or grid images. May be s3:// or gs://.",
            show_default=False,
            parser=as_path,
            metavar="SOURCES",
        ),
    ],
    subject: Annotated[
        str | None,
        _content(help="Content for clips that came without text of their own."),
    ] = None,
    mapping: Annotated[
        Path | None,
        _content(
            metavar="FILE",
            help="Content of each clip: a CSV or JSONL file with file_name and text, or TOML.",
        ),
    ] = None,
    layout: Annotated[
        str | None,
        _content(
            help="Layout prompt, the sentence that describes the grid: video, turn, time, action, "
            "free, or a sentence with {rows}, {cols}, {frames}, {order} and {interval}.",
            show_default="video",
            autocompletion=complete.layouts,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        _model(
            help="What writes the content: template (existing text), vlm (a model on this "
            "machine) or server.",
            show_default="template",
            autocompletion=complete.choices("caption.backend"),
        ),
    ] = None,
    model: Annotated[
        str | None,
        _model(
            metavar="ID|FOLDER",
            help="Vision-language model for vlm, or a model's name on the server.",
        ),
    ] = None,
    view: Annotated[
        str | None,
        _model(
            help="What the model sees: the grid, a few keyframes, or all frames.",
            show_default="grid",
            autocompletion=complete.choices("caption.view"),
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        _model(help="Question for the model.", show_default="the profile's"),
    ] = None,
    server: Annotated[
        str | None,
        _server(
            metavar="URL",
            help="OpenAI-compatible server; implies --backend server. The key is read from "
            "$OPENAI_API_KEY.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        _server(help="Requests at the same time.", show_default="8"),
    ] = None,
    rate: Annotated[
        float | None,
        _server(help="Most requests per minute.", show_default="no limit"),
    ] = None,
    dry_run: Annotated[
        bool,
        _run("--dry-run", help="Show three captions, write none."),
    ] = False,
    check: Annotated[
        bool,
        _run("--check", help="Check existing captions instead of writing."),
    ] = False,
    force: Annotated[bool, _run("--force", help="Replace existing captions.")] = False,
    engine: Annotated[
        str | None,
        _run(
            help="Where models are asked. local: from this machine. ray: by tasks on a Ray "
            "cluster, or a vlm on each of its GPUs.",
            show_default="local",
            autocompletion=complete.choices("caption.engine"),
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        _run(
            metavar="ADDRESS",
            help="Ray cluster, such as auto or head:6379.",
            show_default="start one on this machine",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        _run(
            metavar="NAME|FILE",
            help="Profile: a shipped one's name, or a TOML file.",
            autocompletion=complete.profiles,
        ),
    ] = None,
) -> None:
    """Write a caption beside each grid image, as a .txt file.

    A caption is the layout prompt and then the content, which says what the grid
    shows. The content comes from --mapping, else from the text that lay beside the
    clip when it was packed, else from --subject, else from the words of the clip's
    name. With --backend vlm or --server, a model describes what it sees.

    Existing captions are kept. You can edit them: run the command again, and
    metadata.jsonl is updated.

    Example: gridctl caption vidgrid/ --subject "a red ball bounces"
    """
    from gridctl.profile import resolve_profile

    loaded = resolve_profile(
        profile,
        fallback=None,
        overrides={
            "caption.backend": backend or ("server" if server else None),
            "caption.model": model,
            "caption.server": server,
            "caption.layout": layout,
            "caption.subject": subject,
            "caption.mapping": mapping,
            "caption.view": view,
            "caption.prompt": prompt,
            "caption.concurrency": concurrency,
            "caption.rate": rate,
            "caption.engine": engine,
            "caption.ray_address": ray_address,
        },
    )
    shell.note(loaded.choice)
    from gridctl import caption as verb

    verb.refuse_unused_flags(loaded)
    if check:
        with shell.progress("check") as progress:
            _report_check(shell, verb.check(sources, loaded.profile, progress=progress))
        return
    with shell.progress("caption", resumes="grids", lines=True) as progress:
        result = verb.caption(
            sources, loaded.profile, force=force, dry_run=dry_run, progress=progress
        )
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
        shell.note(
            f"{cut} cut to the {result.t5_tokens} tokens that T5 reads, such as "
            f"{result.shortened[0]}"
        )
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
