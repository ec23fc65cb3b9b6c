"""Help pages and completion, as the shell shows them."""

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gridctl.cli.app import app
from gridctl.profile import Profile, shipped_profiles, values_of


def help_page(*command: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    return result.stdout


def completions(words: str, folder: Path) -> list[str]:
    """What bash offers after `words`."""
    asked = {"_GRIDCTL_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment = {**os.environ, **asked, "COMP_CWORD": str(words.count(" "))}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "gridctl"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


COMMANDS = {
    ("pack",): ["Input", "Sampling", "Grid", "Output", "Run", "General"],
    ("profile", "show"): ["General"],
}


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_options_stand_in_panels(command: tuple[str, ...], columns: int) -> None:
    page = help_page(*command, columns=columns)
    assert re.findall(r"─ (\w+) ─", page) == ["Arguments", *COMMANDS[command]]
    assert max(map(len, page.splitlines())) <= columns
    assert "<bool>" not in page


@pytest.mark.parametrize("group", [(), ("profile",), ("generate",), ("bench",)])
def test_flags_of_groups_have_no_type(group: tuple[str, ...]) -> None:
    page = help_page(*group)
    assert "--help" in page
    assert "<bool>" not in page


def test_prose_fills_the_width() -> None:
    """Lines end because the page does, not because the source code's line did."""
    lines = [line.strip() for line in help_page("pack", columns=60).splitlines()]
    first = next(number for number, line in enumerate(lines) if line.startswith("Sub-folders"))
    paragraph = lines[first : lines.index("", first)]
    for line, following in pairwise(paragraph):
        assert len(f"{line} {following.split()[0]}") > 58


def test_defaults_that_help_pages_show_are_the_profiles() -> None:
    defaults = dict(values_of(Profile()))
    shown = {}
    for parameter in get_command(app).commands["pack"].params:  # type: ignore[attr-defined]
        found = re.search(r"\[default: ([^\]]*)\]$", getattr(parameter, "help", None) or "")
        for section in ("grid", "pack"):
            if found and (key := f"{section}.{parameter.name}") in defaults:
                shown[key] = found[1]
    said = {"pack.start": "0", "pack.end": "the end of the clip", "pack.max_grids": "no limit"}
    said["pack.workers"] = "one per CPU core"
    said["pack.ray_address"] = "start one on this machine"
    assert shown == {key: said.get(key, str(defaults[key])) for key in shown}
    assert len(shown) > 12


def test_completion_offers_the_values_of_an_option(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    assert completions("gridctl pack --fit ", tmp_path) == ["crop", "pad", "stretch"]
    assert completions("gridctl pack --order s", tmp_path) == ["serpentine"]
    assert completions("gridctl pack --sample ", tmp_path) == [
        "uniform",
        "windows",
        "scenes",
        "fps=8",
    ]
    for command in ("profile show", "unpack a.jpg --profile", "generate t2v --profile", "train"):
        assert completions(f"gridctl {command} ", tmp_path) == [*shipped_profiles(), "mine.toml"]


def test_completion_that_cannot_be_installed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {**os.environ, "HOME": str(tmp_path / "file")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    # Typer looks for the shell among the parent processes; `make test` has sh there.
    command = f"{shlex.quote(sys.executable)} -m gridctl --install-completion; exit $?"
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("gridctl: completion cannot be installed (")
    assert "--show-completion" in line
