"""`gridctl caption`: grid images → a caption beside each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.batch import one_line, report
from gridctl.cli.shell import Shell
from gridctl.errors import GridctlError, UsageError

if TYPE_CHECKING:
    from gridctl.caption import CaptionResult
    from gridctl.caption.length import TextLimits

SHOWN = 3  # captions of a dry run


def caption(
    shell: Shell,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Dataset folders, or grid images.",
            show_default=False,
            readable=False,  # one that is not has its own line, and the others are done
        ),
    ],
    backend: Annotated[
        str | None,
        typer.Option(
            help="What writes the content: template, vlm or server.", show_default="template"
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID|FOLDER", help="Of vlm, or the server's name for it.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="An OpenAI-compatible server; its key is $OPENAI_API_KEY."
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="video, turn, time, action, free, or a sentence with {rows}, {cols}, {frames}, "
            "{order} and {interval}.",
            show_default="video",
        ),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="The content, where no text came with the clip.")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Contents by name: CSV or JSONL (file_name, text), or TOML."
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(help="What models see: grid, keyframes or frames.", show_default="grid"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What models are asked.", show_default="the profile's")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests to the server at once.", show_default="8")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests per minute, at most.", show_default="no limit")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show three captions and write none.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Look over the captions that are there.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write captions again.")] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where flags' defaults come from.")
    ] = None,
) -> None:
    """Write a caption .txt beside each grid image: layout prompt first, then the
    content.

    The content is the --mapping's, else the text that lay beside the clip when
    it was packed, else --subject, else the words of the clip's name; or a model
    describes what it sees, here (--backend vlm) or on a --server. Captions that
    are there are kept, so edit them freely; run it again after that, and
    metadata.jsonl has the edited ones.

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
        },
    )
    shell.note(loaded.choice)
    chosen = loaded.profile.caption
    if chosen.backend == "template" and (model or view or prompt):
        flag = "--model" if model else "--view" if view else "--prompt"
        raise UsageError(f"the template takes no {flag}; add --backend vlm, or a --server.")
    if chosen.backend != "server" and (server or concurrency or rate):
        flag = "--server" if server else "--concurrency" if concurrency else "--rate"
        raise UsageError(
            f"the backend {chosen.backend} takes no {flag}; take --backend server, or leave it out."
        )
    from gridctl import caption as verb

    base = loaded.profile.model.base if loaded.origins["model.base"] != "default" else None
    limits = verb.text_limits(
        base,
        revision=loaded.profile.model.revision,
        text_tokens=loaded.profile.model.text_tokens,
    )
    if check:
        _check(shell, sources, chosen.layout, limits)
        return
    with shell.progress("caption") as progress:
        result = verb.caption(
            sources,
            layout=chosen.layout,
            subject=chosen.subject,
            mapping=verb.read_mapping(chosen.mapping) if chosen.mapping else None,
            describer=lambda: verb.open_describer(loaded.profile),
            asking=verb.asking_of(chosen),
            limits=limits,
            force=force,
            dry_run=SHOWN if dry_run else 0,
            progress=progress,
        )
    _tell(shell, result, t5_tokens=limits.t5_tokens)
    if dry_run:
        _preview(shell, result)
    else:
        report(shell, result, verb="captioned")


def _tell(shell: Shell, result: CaptionResult, *, t5_tokens: int) -> None:
    if result.written:
        count, seconds = len(result.written), result.seconds
        shell.note(f"{count} captions in {seconds:.1f} s, {count / seconds:.1f} a second")
    if result.shortened:
        shell.note(
            f"{len(result.shortened)} were cut to the {t5_tokens} tokens that T5 reads, such as "
            f"{result.shortened[0]}"
        )
    if result.unused:
        shell.note(
            f"{len(result.unused)} names of the mapping are no grid's, such as {result.unused[0]}"
        )


def _preview(shell: Shell, result: CaptionResult) -> None:
    lines: list[str] = []
    asked: str | None = None
    for preview in result.previews:
        if preview.question and preview.question != asked:
            asked = preview.question
            lines.append(f"asked: {asked}")
        lines.append(f"{preview.image}: {preview.caption}")
    shell.results(
        lines,
        [{"image": p.image, "caption": p.caption, "question": p.question} for p in result.previews],
    )
    shell.note(f"nothing is written; {len(result.skipped)} captions are there already")
    for failure in result.failed:
        shell.note(f"would fail: {one_line(failure.reason)}")


def _check(shell: Shell, sources: list[Path], layout: str, limits: TextLimits) -> None:
    from gridctl.caption import check

    with shell.progress("check") as progress:
        result = check(sources, layout=layout, limits=limits, progress=progress)
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
    shell.note(f"{result.grids} captions, no fault")
