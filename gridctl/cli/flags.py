"""Flags: those that are made from the table of settings, and those that all commands have.

`command` turns a function into a command. It gets a `Shell`, and with settings the profile that
their flags, `--profile` and the profile's own files make together.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.models import OptionInfo, ParameterInfo

from gridctl.cli.shell import Shell
from gridctl.files import expand_home
from gridctl.profile import (
    Profile,
    find_setting,
    load_profile,
    parse_flags,
    resolve_profile,
    shipped_profiles,
    values_of,
)
from gridctl.profile.settings import Section, Setting, settings_of
from gridctl.storage import is_remote, refuse_remote

# The order of the panels on a help page. Flags without a panel come first.
_PANELS = (
    "", "Size", "Input", "Content", "Model", "Server", "Training", "Sampling", "Fine sampling",
    "Grid", "Images from elsewhere", "Output", "Speed", "Run", "General",
)  # fmt: skip


def profiles() -> list[str]:
    """The profiles that come with gridctl, and those in the current folder."""
    here = sorted(path.name for path in Path().glob("*.toml") if path.name != "pyproject.toml")
    return [*shipped_profiles(), *here]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag that sets a key of the profile."""

    key: str
    row: Setting
    panel: str
    default: str | None = None  # text of help pages, if not the profile's value; "" is none

    @property
    def name(self) -> str:
        """Name of its parameter."""
        return self.key.replace(".", "_")

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter that Typer reads. It is None if the flag is not given."""
        row = self.row
        kind: Any = row.kind if row.kind in (int, float, bool) and not row.form else str
        metavar = row.metavar or (row.form and row.form.metavar) or (row.unit and row.unit.upper())
        names = row.flag.split()
        if kind is bool:
            names, metavar = [f"{row.flag}/--no-{row.flag.removeprefix('--')}"], ""
        option = typer.Option(
            *names,
            help=row.help.replace("[", "\\["),
            metavar=metavar,
            show_default=False,
            rich_help_panel=self.panel,
            autocompletion=(lambda: list(row.choices)) if row.choices else None,
        )
        annotation = Annotated[kind | None, option]
        return inspect.Parameter(self.name, _KEYWORD, default=None, annotation=annotation)


def flags(
    *keys: str, panel: str | None = None, default: str | None = None, help: str | None = None
) -> list[Flag]:
    """Flags of settings, by dotted key, or of all in a section that have a panel.

    `panel` and `help` are others than the settings' own. `default` is what help pages say of the
    default, if it is not the profile's value; "" says nothing.
    """
    sections = {section.key: section.kind for section in settings_of(Profile)}
    found = [
        (f"{key}.{row.key}", row)
        for key in keys
        for row in (settings_of(sections[key]) if key in sections else [])
        if row.panel
    ]
    found += [(key, find_setting(key)) for key in keys if key not in sections]
    return [
        Flag(
            key=key,
            row=replace(row, help=help or row.help),
            panel=panel or row.panel or "",
            default=default,
        )
        for key, row in found
    ]


def command(
    *groups: list[Flag],
    fallback: str | None = None,
    profile: ParameterInfo | None = None,
    table: type[Section] | None = None,
) -> Callable[..., Callable[..., None]]:
    """Make a command of a function, whose own parameters are keywords that Typer reads.

    It gets a `Shell`. With flags it gets `loaded` too: the profile that --profile names, or
    another parameter `profile`, or else `fallback`. With a `table` of more settings, its keyword
    `given` holds those of their values that flags set.
    """
    own_flags = [flag for group in groups for flag in group]
    rows = settings_of(table) if table else ()
    table_flags = [Flag(key=row.key, row=row, panel=row.panel or "") for row in rows]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
        parameters = [p for p in parameters if p.name not in ("shell", "loaded", "given")]
        chooser = Annotated[str | None, profile or _profile_option()]

        @functools.wraps(function)
        def wrapper(**arguments: Any) -> None:
            general = {name: arguments.pop(name) for name in ("json", "quiet", "verbose")}
            arguments = {name: _at_home(name, value) for name, value in arguments.items()}
            del arguments["help"]
            del arguments["traceback"]  # __main__ reads it: an error may come before this point
            if table:
                values = {flag.key: arguments.pop(flag.key) for flag in table_flags}
                arguments["given"] = parse_flags(table, values)
            if own_flags:
                chosen = arguments.pop("profile")
                values = {flag.key: arguments.pop(flag.name) for flag in own_flags}
                arguments["loaded"] = resolve_profile(chosen, fallback=fallback, overrides=values)
            function(shell=Shell(**general), **arguments)

        def show_help(context: typer.Context, asked: bool) -> None:
            if asked:
                texts = dict(_defaults(own_flags, table, fallback))
                for parameter in context.command.params:
                    if parameter.name in texts:
                        parameter.help += f" \\[{texts[parameter.name]}]"  # type: ignore[attr-defined]
                context.get_help()  # Typer prints the page itself
                raise typer.Exit()

        shown = [*parameters, *(flag.parameter for flag in (*own_flags, *table_flags))]
        if own_flags:
            shown.append(inspect.Parameter("profile", _KEYWORD, default=None, annotation=chooser))
        shown += _general(show_help)
        for parameter in shown:
            _tidy(parameter)
        shown = [p.replace(kind=_KEYWORD) for p in sorted(shown, key=_place)]
        wrapper.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in shown}
        return wrapper

    return decorate


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _profile_option() -> OptionInfo:
    info: OptionInfo = typer.Option(
        metavar="NAME|FILE",
        help="Profile with the settings that flags do not set.",
        show_default=False,
        rich_help_panel="Run",
        autocompletion=profiles,
    )
    return info


def _general(show_help: Callable[[typer.Context, bool], None]) -> Iterator[inspect.Parameter]:
    """The flags that all commands have."""
    option = functools.partial(typer.Option, rich_help_panel="General")
    options = {
        "json": option("--json", help="Print results as JSON."),
        "quiet": option("--quiet", "-q", help="Print only results and errors."),
        "verbose": option("--verbose", help="Print more details on stderr."),
        "traceback": option("--traceback", help="Show the Python traceback of an error."),
        "help": option(
            "--help", "-h", help="Show this page and exit.", is_eager=True, callback=show_help
        ),
    }
    for name, info in options.items():
        annotation = Annotated[bool, info]
        yield inspect.Parameter(name, _KEYWORD, default=False, annotation=annotation)


def _place(parameter: inspect.Parameter) -> int:
    """The place of a parameter's panel on the page."""
    infos = [info for info in get_args(parameter.annotation) if isinstance(info, ParameterInfo)]
    panel = infos[0].rich_help_panel if infos else ""
    return _PANELS.index(panel or "")


def _tidy(parameter: inspect.Parameter) -> None:
    """Show flags without a type and defaults without parentheses."""
    kind, *rest = get_args(parameter.annotation) or (parameter.annotation,)
    for info in rest:
        if isinstance(info, ParameterInfo):
            info.readable = False  # Typer's check; the commands' own errors say more
        if isinstance(info, OptionInfo) and kind is bool:
            info.metavar = ""
        if isinstance(info, ParameterInfo) and isinstance(info.show_default, str):
            info.help = f"{info.help} \\[default: {info.show_default}]"
            info.show_default = False


def _defaults(
    own_flags: list[Flag], table: type[Section] | None, fallback: str | None
) -> Iterator[tuple[str, str]]:
    """(parameter, text) of each flag whose default a help page shows."""
    for key, value in table().values().items() if table else ():
        if value is not None:
            yield key, f"default: {_text(value)}"
    plain = dict(values_of(Profile()))
    values = dict(values_of(load_profile(fallback).profile)) if own_flags else {}
    for flag in own_flags:
        value = values[flag.key] if flag.default is None else flag.default
        if value not in (None, "") and not isinstance(value, bool) and len(_text(value)) < 40:
            is_own = flag.default is None and value != plain[flag.key]
            yield flag.name, f"{fallback if is_own else 'default'}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _at_home(name: str, value: Any) -> Any:
    """A path with its `~` expanded, which shells do not do in --output=~/name."""
    if is_remote(value):
        if name == "output" and isinstance(value, str):
            refuse_remote(value, "this output")
        return value
    if isinstance(value, Path):
        refuse_remote(value, "this path")
        return Path(expand_home(str(value)))
    if isinstance(value, str) and name == "output":  # a trailing slash has a meaning there
        return expand_home(value)
    if isinstance(value, list):
        return [_at_home(name, item) for item in value]
    return value
