"""From TOML files and flags to one frozen Profile, with the origin of each value.

A value comes from the first of these that has it: a flag, the profile, the profile that it
extends, the memory preset (for keys of [memory]), the default. The preset itself is a value like
any other: a child's preset replaces its parent's and every key that the parent's filled in. A key
that any file of the chain sets by name is kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli

from gridctl.errors import ProfileError
from gridctl.files import expand_home
from gridctl.profile.check import nearest, parse_section
from gridctl.profile.model import PRESETS
from gridctl.profile.profile import Profile
from gridctl.profile.settings import Section, settings_of
from gridctl.profile.toml import toml_value
from gridctl.profile.training import StageSection

ENVIRONMENT = "GRIDCTL_PROFILE"
LOCAL_FILE = Path("gridctl.toml")
FLAGS = "command line"


@dataclass(frozen=True, kw_only=True)
class LoadedProfile:
    """A profile, the file or shipped profile that it was read from, and why that one.

    `choice` is a message for the user.
    """

    profile: Profile
    source: str | None = None
    choice: str = ""


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One file of the chain, or the flags."""

    label: str
    table: dict[str, Any]
    faults: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return "flag" if self.label == FLAGS else self.label


def shipped_profiles() -> dict[str, Path]:
    """Name → file of the profiles that come with gridctl."""
    folder = Path(__file__).parent.parent / "profiles"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def resolve_profile(
    flag: str | Path | None,
    *,
    fallback: str | None,
    overrides: Mapping[str, Any] | None = None,
) -> LoadedProfile:
    """Load the flag's profile, else $GRIDCTL_PROFILE, else ./gridctl.toml, else `fallback`.

    With no fallback the profile has the defaults. Raises ProfileError with every fault of the
    chain.
    """
    source, reason = _find(flag)
    if source is None and fallback is not None:
        source, reason = fallback, "the default"
    loaded = load_profile(source, overrides)
    if source is None:
        return replace(loaded, choice="No profile: using the defaults.")
    return replace(loaded, choice=f"Profile {loaded.source} ({reason}).")


def load_profile(
    source: str | Path | None, overrides: Mapping[str, Any] | None = None
) -> LoadedProfile:
    """Read a shipped profile (by name) or a file, all it extends, and `overrides` on top.

    `overrides` are flags by dotted key, such as `{"grid.rows": 4}`. None means not given.
    Without a source the profile has the defaults. Raises ProfileError with every fault of the
    chain, each with the file that has it.
    """
    layers = [_flags(overrides or {}), *(_chain(source) if source is not None else [])]
    faults = [fault for layer in layers for fault in (*layer.faults, *_check(layer))]
    if faults:
        raise ProfileError(list(dict.fromkeys(faults)))
    table, origins = _merge(layers)
    complete = {
        key: origins.get(key, "default")
        for section in settings_of(Profile)
        for row in settings_of(section.kind)
        for key in [f"{section.key}.{row.key}"]
    }
    profile = replace(parse_section(Profile, table), origins=complete)
    return LoadedProfile(profile=profile, source=layers[1].label if len(layers) > 1 else None)


def parse_flags(kind: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a table's settings that flags set, by field. None means not given.

    Raises ProfileError with every fault.
    """
    given = {key: value for key, value in values.items() if value is not None}
    try:
        section = parse_section(kind, given)
    except ProfileError as error:
        raise ProfileError([f"{FLAGS}: {fault}" for fault in error.faults]) from None
    return {row.name: getattr(section, row.name) for row in settings_of(kind) if row.key in given}


def unused_settings(loaded: LoadedProfile) -> list[str]:
    """One line for each key of [train] in the profile's own file that every stage overrides."""
    profile, stages = loaded.profile, loaded.profile.train.stages
    return [
        f"{loaded.source}: train.{row.key} has no effect: every [[train.stage]] sets {row.key}"
        for row in settings_of(StageSection)
        if stages
        and profile.origins.get(f"train.{row.key}") == loaded.source
        and all(getattr(stage, row.name) is not None for stage in stages)
    ]


def _find(flag: str | Path | None) -> tuple[str | Path | None, str]:
    if flag is not None:
        return flag, "from the command line"
    if os.environ.get(ENVIRONMENT):
        return os.environ[ENVIRONMENT], f"from ${ENVIRONMENT}"
    if LOCAL_FILE.is_file():
        return LOCAL_FILE, "in the current folder"
    return None, ""


def _flags(overrides: Mapping[str, Any]) -> _Layer:
    table: dict[str, Any] = {}
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if value is not None:
            table.setdefault(section, {})[name] = value
    return _Layer(label=FLAGS, table=table)


def _chain(source: str | Path) -> list[_Layer]:
    """`source` and all it extends, child first. A file that cannot be read is a layer's fault."""
    layers: list[_Layer] = []
    seen: dict[Path, str] = {}
    asked_by, folder = "", Path()
    while True:
        label, path = _locate(source, folder)
        if path is None:
            layers.append(_Layer(label=label, table={}, faults=[f"{asked_by}{_missing(label)}"]))
            return layers
        if path.resolve() in seen:
            circle = " -> ".join([*seen.values(), label])
            fact = f"{asked_by}the profiles extend each other in a circle ({circle})"
            layers.append(
                _Layer(label=label, table={}, faults=[f"{fact}; take one `extends` out."])
            )
            return layers
        seen[path.resolve()] = label
        layer, extends = _read(label, path)
        layers.append(layer)
        if extends is None:
            return layers
        source, folder, asked_by = extends, path.parent, f"{label}: extends: "


def _locate(source: str | Path, folder: Path) -> tuple[str, Path | None]:
    """(what to call it, its file or None); `folder` is where relative paths start."""
    shipped = shipped_profiles()
    if isinstance(source, str) and source in shipped:
        return source, shipped[source]
    path = folder / expand_home(str(source))
    return str(path if str(source) else source), path if path.is_file() else None


def _missing(label: str) -> str:
    names = list(shipped_profiles())
    close = nearest(Path(label).stem, names)
    remedy = f"did you mean {close}? " if close else ""
    fact = "a folder, not a profile" if label and Path(label).is_dir() else "no such profile"
    return (
        f"{label or 'the empty name'}: {fact}; {remedy}Name a file, or one of {', '.join(names)}."
    )


def _read(label: str, path: Path) -> tuple[_Layer, str | None]:
    """One file, and what it extends."""
    faults: list[str] = []
    table: dict[str, Any] = {}
    try:
        table = tomli.loads(path.read_bytes().decode("utf-8-sig"))
    except tomli.TOMLDecodeError as error:
        faults.append(f"{label}: {_syntax(str(error))}")
    except UnicodeDecodeError as error:
        faults.append(f"{label}: byte {error.start} is not UTF-8; save the file as UTF-8 text.")
    except (ValueError, RecursionError):  # what Python itself refuses, such as 5,000 digits
        faults.append(f"{label}: holds a number or nesting beyond what Python reads; shorten it.")
    except OSError as error:
        faults.append(f"{label}: cannot be read ({error.strerror}); check its permissions.")
    extends = table.pop("extends", None)
    if extends is not None and not isinstance(extends, str):
        value = toml_value(extends)
        faults.append(f"{label}: extends: {value} is not a name or path; write one in quotes.")
        extends = None
    return _Layer(label=label, table=table, faults=faults), extends


def _syntax(message: str) -> str:
    """`Invalid value (at line 1, column 5)` → `line 1, column 5: not TOML (invalid value); …`."""
    match = re.fullmatch(r"(.*) \(at (.*)\)", message, re.DOTALL)
    what, where = match.groups() if match else (message, "syntax")
    return f"{where}: not TOML ({' '.join(what.split())}); correct it there."


def _check(layer: _Layer) -> list[str]:
    """The faults of one file by itself, also those that a child overrides."""
    try:
        parse_section(Profile, layer.table)
    except ProfileError as error:
        return [f"{layer.label}: {fault}" for fault in error.faults]
    return []


def _merge(layers: list[_Layer]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Take each key from the first layer that has it, then fill [memory] from the preset."""
    table: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for section, keys in layer.table.items():
            for name, value in keys.items():
                if name not in table.setdefault(section, {}):
                    table[section][name] = value
                    origins[f"{section}.{name}"] = layer.origin
    memory = table.setdefault("memory", {})
    if preset := memory.get("preset"):
        for name, value in PRESETS[preset].values.items():
            if name not in memory:
                memory[name] = value
                origins[f"memory.{name}"] = f"preset {preset}"
    return table, origins
