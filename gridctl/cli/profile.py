"""`gridctl profile`: list, show, check and start profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.shell import Shell, with_shell
from gridctl.errors import ProfileError, UsageError
from gridctl.files import write_text

if TYPE_CHECKING:
    from gridctl.profile import LoadedProfile

profile_app = typer.Typer(
    help="List, show, check and start profiles.",
    epilog="Start with `gridctl profile list`.",
    no_args_is_help=True,
)


@profile_app.command("list", epilog="Example: `gridctl profile list`")
@with_shell
def list_profiles(shell: Shell) -> None:
    """List the profiles that ship, and whether this machine can run them."""
    from gridctl.machine.needs import missing_for, this_machine
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
        lines.append(f"{row['name']:<{width}}  {row['about']}")
        verdict = [f"- {reason}" for reason in row["reasons"]] or ["+ fits this machine"]
        lines += [f"{'':<{width}}  {line}" for line in verdict]
    shell.results(lines, rows)


@profile_app.command("show", epilog="Example: `gridctl profile show flux-dev-24gb`")
@with_shell
def show(
    shell: Shell,
    profile: Annotated[
        str | None,
        typer.Argument(
            help="A shipped profile or a file; without it, the one that generate "
            "and train would take here.",
            metavar="[NAME|PATH]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print every effective value and where it came from; the output is a profile again."""
    from gridctl.profile import resolve_profile, show_lines, values_of

    loaded = resolve_profile(profile, fallback="tiny")
    shell.note(loaded.choice)
    data = {
        key: {"value": value, "origin": loaded.origins[key]}
        for key, value in values_of(loaded.profile)
    }
    shell.results(show_lines(loaded), data)


@profile_app.command("check", epilog="Example: `gridctl profile check gridctl.toml`")
@with_shell
def check(
    shell: Shell,
    profiles: Annotated[
        list[str], typer.Argument(help="Shipped profiles or files.", metavar="NAME|PATH...")
    ],
) -> None:
    """List every fault of these profiles and of what they extend; exit code 2 if any has one."""
    faults: dict[str, tuple[str, ...]] = {name: _faults(name) for name in profiles}
    lines = [f"{name}: ok" for name in profiles if not faults[name]]
    shell.results(lines, [{"profile": name, "faults": faults[name]} for name in profiles])
    found = list(dict.fromkeys(fault for each in faults.values() for fault in each))
    if found:
        raise ProfileError(found)


@profile_app.command("init", epilog="Example: `gridctl profile init --from flux-dev-24gb`")
@with_shell
def init(
    shell: Shell,
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("gridctl.toml"),
    source: Annotated[
        str, typer.Option("--from", help="The shipped profile to extend.", metavar="NAME")
    ] = "tiny",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented profile that extends a shipped one, with every key ready to be set."""
    from gridctl.profile import shipped_profiles, starter_toml

    if source not in shipped_profiles():
        raise UsageError(
            f"--from {source} is no profile that ships; choose {', '.join(shipped_profiles())}."
        )
    write_text(path, starter_toml(source, _loaded(source)), force=force)
    shell.results([path], {"profile": str(path), "extends": source})


def _loaded(name: str) -> LoadedProfile:
    from gridctl.profile import load_profile

    return load_profile(name)


def _faults(name: str) -> tuple[str, ...]:
    try:
        _loaded(name)
    except ProfileError as error:
        return error.faults
    return ()
