"""The executable: the verbs and the profile helper, each in its own file."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl import __version__
from gridctl.cli.adapter import adapter_app
from gridctl.cli.bench import bench_app
from gridctl.cli.caption import caption
from gridctl.cli.generate import generate_app
from gridctl.cli.pack import pack
from gridctl.cli.profile import profile_app
from gridctl.cli.shell import Group, with_shell
from gridctl.cli.train import train
from gridctl.cli.unpack import unpack

app = typer.Typer(
    cls=Group,
    epilog="Start with: gridctl pack videos/ --sample fps=8",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"gridctl {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version.", metavar=""
        ),
    ] = False,
) -> None:
    """Turn videos into grid images, train FLUX.1 on them, and generate clips (GRID, arXiv
    2412.10718)."""


for _verb in (pack, caption, train):
    app.command(_verb.__name__)(with_shell(_verb))
app.add_typer(generate_app, name="generate", cls=Group)
app.command("unpack")(with_shell(unpack))
app.add_typer(adapter_app, name="adapter", cls=Group)
app.add_typer(bench_app, name="bench", cls=Group)
app.add_typer(profile_app, name="profile", cls=Group)
