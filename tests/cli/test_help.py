"""Help pages and completion, as the shell shows them."""

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridctl.cli.app import COMMANDS, app, load_command
from gridctl.profile import shipped_profiles


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


PANELS = {
    ("pack",): ["Input", "Sampling", "Grid", "Output", "Run", "General"],
    ("profile", "show"): ["General"],
}


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("command", PANELS)
def test_options_stand_in_panels(command: tuple[str, ...], columns: int) -> None:
    page = help_page(*command, columns=columns)
    assert re.findall(r"─ (\w+) ─", page) == ["Arguments", *PANELS[command]]
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


def words(page: str) -> str:
    """The page on one line, without its frame."""
    return " ".join(page.replace("│", " ").split())


def test_pages_show_the_defaults_of_their_profile() -> None:
    pack = words(help_page("pack"))
    for text in ("2 takes every second frame. [default: 1]", "of 16. [default: 256x256]"):
        assert text in pack
    assert "Unset is the end of the clip. --" not in pack  # no default of None
    train = words(help_page("train"))
    for text in ("after the warm-up. [tiny: 0.002]", "Number of optimizer steps. [tiny: 600]"):
        assert text in train
    assert "Random seed. [default: 0]" in train  # as without tiny
    assert "multiples of 16. [default: the adapter's]" in words(help_page("generate", "t2v"))
    assert "as rows x columns. [default: 2x4,4x6]" in words(help_page("bench", "memory"))


def test_the_same_setting_has_the_same_text() -> None:
    texts = {
        option.help
        for path in ("pack", "generate i2v", "generate edit")
        for option in load_command(path).params
        if option.name == "pack_fit"
    }
    assert len(texts) == 1


@pytest.mark.parametrize("path", COMMANDS)
def test_every_page_begins_with_its_table_entry(path: str) -> None:
    about, example = COMMANDS[path]
    page = words(help_page(*path.split()))
    assert f"{about} " in page
    assert f"Example: gridctl {example} " in page
    group = words(help_page(*path.split()[:-1]))
    assert f"{path.split()[-1]} {about}" in group


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_can_be_parsed(path: str) -> None:
    call = shlex.split(COMMANDS[path][1])
    leaf = max((p for p in COMMANDS if call[: len(p.split())] == p.split()), key=len)
    command = load_command(leaf)
    command.make_context(leaf, call[len(leaf.split()) :])  # raises for a flag that is not there


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


def test_failed_installation_of_completion_is_one_line(tmp_path: Path) -> None:
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
