"""The README does what it prints.

Blocks of ```sh and ```python are run in order in one folder, ```toml is loaded, and the
commands of ```console, which need other machines, are held against the command line.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
import typer

from gridctl.cli.app import app
from gridctl.media.dataset import list_grids
from gridctl.media.grid_image import load_facts
from gridctl.profile import load_profile

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command that does something: its words → Typer's command."""
    children = getattr(command, "commands", None)
    if children is None:
        return {path: command}
    return {
        words: leaf
        for name, child in children.items()
        for words, leaf in commands(child, (*path, name)).items()
    }


COMMANDS = commands(typer.main.get_command(app))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runnable blocks have been run, as one user would, one after the other."""
    folder = tmp_path_factory.mktemp("readme")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "GRIDCTL_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",  # nothing is downloaded
    }
    environment.pop("GRIDCTL_PROFILE", None)
    for language, interpreter in (("sh", ["sh", "-eu", "-c"]), ("python", [sys.executable, "-c"])):
        assert blocks(language)
        for block in blocks(language):
            done = subprocess.run(
                [*interpreter, block], cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            assert "Warning" not in done.stderr
    return folder


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_main_road_makes_grids_captions_and_an_adapter(folder: Path) -> None:
    grids = list_grids(folder / "vidgrid")
    assert len(grids) == len(list((folder / "videos").glob("*.mp4"))) > 0
    assert all(grid.with_suffix(".txt").read_text().startswith("4x6 grid") for grid in grids)
    assert len((folder / "vidgrid/metadata.jsonl").read_text().splitlines()) == len(grids)
    assert (folder / "adapter.safetensors").is_file()
    assert (folder / "adapter.run/metrics.jsonl").is_file()


@pytest.mark.parametrize(
    ("name", "count"), [("out.mp4", 24), ("clip.mp4", 24), ("star.gif", 24), ("small.gif", 6)]
)
def test_a_clip_has_the_frames_of_its_grid(folder: Path, name: str, count: int) -> None:
    assert frames_of(folder / name) == count


def test_the_python_block_has_a_grid_of_its_own(folder: Path) -> None:
    facts = load_facts(list_grids(folder / "small")[0])
    assert facts is not None
    assert str(facts.grid) == "2x3 cells of 64x64, serpentine"
    assert len(list((folder / "frames").glob("*.png"))) == 6
    assert (folder / "square.png").is_file()


def test_the_toml_block_is_a_profile(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    path = tmp_path / "gridctl.toml"
    path.write_text(block, encoding="utf-8")
    assert str(load_profile(path).profile.grid.to_grid()) == "2x4 cells of 64x64, row-major"


def test_commands_that_are_not_run_have_the_flags_they_are_given() -> None:
    lines = "\n".join(blocks("console")).replace("\\\n", " ").splitlines()
    calls = [shlex.split(line, comments=True)[1:] for line in lines]
    calls = [call[1:] for call in calls if call[:1] == ["gridctl"]]
    assert len(calls) >= 4
    for call in calls:
        words = max((w for w in COMMANDS if tuple(call[: len(w)]) == w), key=len)
        known = {flag for parameter in COMMANDS[words].params for flag in parameter.opts}
        assert {word for word in call if word.startswith("-")} <= known, call


def test_make_knows_the_tasks() -> None:
    tasks = re.findall(r"^\$ make ([\w-]+)", "\n".join(blocks("console")), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert tasks == ["demo", "test"]
    assert all(re.search(rf"^{task}:", makefile, re.MULTILINE) for task in tasks)


def test_the_table_names_every_command_and_no_other() -> None:
    named = re.findall(r"^\| `gridctl ([\w ]+)` \|", README, re.MULTILINE)
    assert sorted(named) == sorted(" ".join(words) for words in COMMANDS)


def test_the_profiles_it_names_ship() -> None:
    for name in set(re.findall(r"flux-\w+-\d+gb", README)):
        load_profile(name)


def test_the_files_it_points_to_are_there() -> None:
    for path in re.findall(r"[`\"(]((?:docs|examples|tests)/[\w./]*)[`\")]", README):
        assert (ROOT / path).exists(), path
