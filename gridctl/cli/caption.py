"""`gridctl caption`: grid images → a caption beside each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.batch import report
from gridctl.cli.shell import Shell


def caption(
    shell: Shell,
    sources: Annotated[
        list[Path],
        typer.Argument(help="Dataset folders, or grid images.", show_default=False),
    ],
    layout: Annotated[
        str | None,
        typer.Option(
            help="video, turn, or a sentence with {rows}, {cols}, {frames} and {order}.",
            show_default="video",
        ),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="The content, where no text came with the clip.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write captions again.")] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where flags' defaults come from.")
    ] = None,
) -> None:
    """Write a caption .txt beside each grid image: layout prompt first, then the
    content.

    The content is the text that lay beside the clip when it was packed, else
    --subject, else the words of the clip's name. Captions that are there are
    kept, so edit them freely; run it again after that, and metadata.jsonl has
    the edited ones.

    Example: gridctl caption vidgrid/ --subject "a red ball bounces"
    """
    from gridctl.caption import caption as run
    from gridctl.profile import resolve_profile

    loaded = resolve_profile(
        profile,
        fallback=None,
        overrides={"caption.layout": layout, "caption.subject": subject},
    )
    shell.note(loaded.choice)
    chosen = loaded.profile.caption
    with shell.progress("caption") as progress:
        result = run(
            sources,
            layout=chosen.layout,
            subject=chosen.subject,
            force=force,
            progress=progress,
        )
    report(shell, result, verb="captioned")
