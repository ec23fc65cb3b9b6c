"""Where the cache lies, and what a user reads who cannot have one there."""

import subprocess
import sys
from pathlib import Path

import pytest

from gridctl.errors import InputError
from gridctl.machine.caches import cache_file, cache_folder

VARIABLES = ("GRIDCTL_CACHE", "XDG_CACHE_HOME", "HOME")


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"GRIDCTL_CACHE": "own", "XDG_CACHE_HOME": "xdg", "HOME": "home"}, "own"),
        ({"XDG_CACHE_HOME": "xdg", "HOME": "home"}, "xdg/gridctl"),
        ({"XDG_CACHE_HOME": "", "HOME": "home"}, "home/.cache/gridctl"),
    ],
)
def test_where_the_cache_lies(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


NO_HOME = """
import os, pwd, sys
def nobody(*_): raise KeyError
pwd.getpwuid = nobody
from gridctl.machine.caches import cache_folder
from gridctl.errors import InputError
try:
    cache_folder()
except InputError as error:
    print(error)
"""


def test_a_user_without_a_home_reads_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", NO_HOME], capture_output=True, text=True)
    assert "no home folder" in done.stdout
    assert "GRIDCTL_CACHE" in done.stdout


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "entry"
    with (
        pytest.raises(InputError, match=r"file/entry cannot be written .* set GRIDCTL_CACHE"),
        cache_file(path),
    ):
        pass


def test_an_entry_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with cache_file(tmp_path / "entry") as temporary:
            temporary.write_text(text)
    assert (tmp_path / "entry").read_text() == "two"
