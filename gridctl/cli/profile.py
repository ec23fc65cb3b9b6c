"""`gridctl profile`: list, show, check and write profiles."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from gridctl.cli.flags import command, profiles
from gridctl.cli.shell import Shell
from gridctl.errors import ProfileError, UsageError
from gridctl.files import write_text
from gridctl.profile import LoadedProfile


@command()
def profile_list(shell: Shell) -> None:
    from gridctl.needs import missing_for, this_machine
    from gridctl.profile import load_profile, shipped_profiles

    machine = this_machine()
    rows: list[dict[str, Any]] = []
    for name, path in shipped_profiles().items():
        reasons = missing_for(load_profile(name).profile, machine)
        about = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        rows.append({"name": name, "about": about, "fits": not reasons, "reasons": reasons})
    width = max(len(row["name"]) for row in rows)
    lines = []
    for row in rows:
        lines += _wrapped(f"{row['name']:<{width}}  {row['about']}", indent=width + 2)
        for verdict in [f"- {reason}" for reason in row["reasons"]] or ["+ fits this machine"]:
            lines += _wrapped(f"{'':<{width}}  {verdict}", indent=width + 4)
    shell.results(lines, rows)


@command()
def profile_show(
    shell: Shell,
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name of a shipped profile, or a file. Without it, the profile that generate and "
            "train would use here.",
            metavar="NAME|FILE",
            show_default=False,
            autocompletion=profiles,
        ),
    ] = None,
) -> None:
    """The output is a valid profile."""
    from gridctl.profile import BUILT_IN, resolve_profile, show_lines, values_of

    loaded = resolve_profile(name, fallback=BUILT_IN)
    shell.note(loaded.choice)
    data = {
        key: {"value": value, "origin": loaded.profile.origins[key]}
        for key, value in values_of(loaded.profile)
    }
    shell.results(show_lines(loaded.profile), data)


@command()
def profile_check(
    shell: Shell,
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names of shipped profiles, or files.",
            metavar="NAME|FILE",
            autocompletion=profiles,
        ),
    ],
) -> None:
    """The exit code is 2 if there is any."""
    from gridctl.profile import unused_settings

    faults: dict[str, tuple[str, ...]] = {}
    for name in names:
        try:
            for line in unused_settings(_loaded(name)):
                shell.note(line)
            faults[name] = ()
        except ProfileError as error:
            faults[name] = error.faults
    lines = [f"{name}: ok" for name in names if not faults[name]]
    shell.results(lines, [{"profile": name, "faults": faults[name]} for name in names])
    found = list(dict.fromkeys(fault for each in faults.values() for fault in each))
    if found:
        raise ProfileError(found)


@command()
def profile_init(
    shell: Shell,
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("gridctl.toml"),
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="Shipped profile to extend.",
            metavar="NAME",
            autocompletion=profiles,
        ),
    ] = "tiny",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """It has every key in a comment, with its meaning and its present value."""
    from gridctl.profile import shipped_profiles, starter_toml

    if source not in shipped_profiles():
        raise UsageError(
            f"--from {source} is not a shipped profile; choose {', '.join(shipped_profiles())}."
        )
    write_text(path, starter_toml(source, _loaded(source).profile), force=force)
    shell.results([path], {"profile": str(path), "extends": source})


def _loaded(name: str) -> LoadedProfile:
    from gridctl.profile import load_profile

    return load_profile(name)


def _wrapped(line: str, *, indent: int) -> list[str]:
    """`line` as lines that fit the terminal. Unchanged where stdout is none."""
    if not sys.stdout.isatty():
        return [line]
    width = max(indent + 20, shutil.get_terminal_size().columns)
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False)
