"""The executable from outside: exit codes, and what goes to stdout and to stderr."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gridctl
from gridctl.media.write import write_clip

COMMAND = [sys.executable, "-m", "gridctl"]
SMALL = ("--rows", "2", "--cols", "2", "--cell", "16")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no profile from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDCTL_PROFILE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(gridctl.__file__).parent.parent))
    return tmp_path


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, timeout=120
    )


def make_clip(name: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    write_clip(frames, Path(name), fps=8)


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"gridctl {gridctl.__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_the_commands(flag: str) -> None:
    done = run(flag)
    assert (done.returncode, done.stderr) == (0, "")
    for verb in ("pack", "caption", "train", "generate", "unpack", "bench", "profile"):
        assert verb in done.stdout


def test_without_arguments_there_is_help_and_a_usage_code() -> None:
    done = run()
    assert done.returncode == 2
    assert "unpack" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["pcak"], "pcak"),
        (["pack", "videos", "--colls", "6"], "--colls"),
        (["pack"], "sources"),
        (["pack", "videos", "--rows", "four"], "--rows"),
        (["generate", "t3v", "a cat"], "t3v"),
    ],
)
def test_wrong_usage_is_2_and_names_what_is_wrong(arguments: list[str], named: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (["pack", "missing.mp4", *SMALL], 1, "missing.mp4 does not exist"),
        (["pack", "notes.txt", *SMALL], 1, "notes.txt"),
        (["unpack", "missing.jpg", "-o", "a.mp4"], 1, "missing.jpg"),
        (["caption", "empty"], 1, "empty holds no grid image"),
        (["pack", "notes.txt", "--cell", "250"], 2, "cell 250x250 is not a multiple of 16"),
        (["unpack", "notes.txt", "-o", "a.avi"], 2, ".avi"),
        (["train", "nosuch"], 2, "nosuch: no such profile"),
        (["profile", "check", "bad.toml"], 2, "bad.toml: grid.colls: unknown key"),
    ],
)
def test_a_fault_is_one_line_without_traceback(
    arguments: list[str], code: int, fact: str, folder: Path
) -> None:
    Path("notes.txt").write_text("not a video")
    Path("empty").mkdir()
    Path("bad.toml").write_text("[grid]\ncolls = 6\n")
    before = sorted(folder.rglob("*"))
    done = run(*arguments, "--quiet")
    assert (done.returncode, done.stdout) == (code, "")
    assert fact in done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("gridctl: ")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="the current folder cannot be deleted there")
def test_a_current_folder_that_was_deleted_is_one_line(folder: Path) -> None:
    (folder / "gone").mkdir()
    command = 'cd gone && rmdir ../gone && "$@"'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *COMMAND, "profile", "list"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "gridctl: the current folder was deleted; change to another one.\n"


NO_HOME = """
import pwd

def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = getpwuid
"""


@pytest.mark.skipif(sys.platform == "win32", reason="users have no numbers there")
@pytest.mark.parametrize("arguments", [["profile", "list"], ["profile", "show", "flux-dev-24gb"]])
def test_a_user_without_a_home_is_no_traceback(arguments: list[str], folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(NO_HOME)  # as `docker run --user 54321`
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    unset = ("HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "GRIDCTL_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert "flux" in done.stdout


def test_every_fault_of_a_profile_has_a_line() -> None:
    Path("bad.toml").write_text("[grid]\ncolls = 6\nrows = 0\n")
    done = run("profile", "check", "bad.toml")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert all(line.startswith("gridctl: bad.toml: grid.") for line in done.stderr.splitlines())


def test_some_inputs_that_fail_are_3_and_the_rest_are_done() -> None:
    make_clip("good.mp4")
    Path("bad.mp4").write_text("not a video")
    done = run("pack", "good.mp4", "bad.mp4", *SMALL, "--quiet")
    assert done.returncode == 3
    assert done.stdout == "vidgrid/good.jpg\n"
    assert [line.startswith("gridctl: ") for line in done.stderr.splitlines()] == [True, True]
    assert "bad.mp4" in done.stderr.splitlines()[0]


def test_traceback_shows_where_it_came_from() -> None:
    done = run("pack", "missing.mp4", "--traceback")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "missing.mp4 does not exist" in done.stderr


def test_json_is_all_there_is_on_stdout() -> None:
    make_clip("good.mp4")
    Path("bad.mp4").write_text("not a video")
    done = run("pack", "good.mp4", "bad.mp4", *SMALL, "--json")
    result = json.loads(done.stdout)
    assert result["written"] == ["vidgrid/good.jpg"]
    assert [failure["path"] for failure in result["failed"]] == ["bad.mp4"]
    again = json.loads(run("pack", "good.mp4", *SMALL, "--json").stdout)
    assert again.pop("summary")["grids"] == 1
    assert again == {"written": [], "skipped": ["vidgrid/good.jpg"], "failed": [], "notes": []}


@pytest.mark.parametrize("arguments", [["list"], ["show", "tiny"], ["check", "tiny"], ["init"]])
def test_profile_commands_have_json(arguments: list[str]) -> None:
    done = run("profile", *arguments, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)


def test_quiet_prints_only_results() -> None:
    make_clip("good.mp4")
    arguments = ("pack", "good.mp4", *SMALL)
    loud = run(*arguments)
    assert "No profile" in loud.stderr
    quiet = run(*arguments, "-o", "other", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "other/good.jpg\n", "")


def test_no_bar_is_drawn_where_there_is_no_terminal() -> None:
    make_clip("good.mp4")
    done = run("pack", "good.mp4", *SMALL)
    assert "\x1b" not in done.stderr + done.stdout
    assert "━" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_a_bar_is_drawn_on_a_terminal() -> None:
    import pty

    make_clip("good.mp4")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "pack", "good.mp4", *SMALL],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        timeout=120,
    )
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        drawn = terminal.read(65536).decode()
    assert done.stdout == b"vidgrid/good.jpg\n"
    assert "pack" in drawn
    assert "1/1" in drawn
    assert "/?" not in drawn  # before there is a count, it says what is being done


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_is_130_without_a_traceback(folder: Path) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "bench", "pack", "--clips", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    deadline = time.monotonic() + 120
    while not any(scratch.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)  # until it is at work
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    # Both are 130 to a shell: Python ends itself by the signal if that came while a library
    # that it imports was calling exec().
    assert process.returncode in (130, -signal.SIGINT)
    assert output == ""
    assert "Traceback" not in errors
    assert process.returncode != 130 or errors.startswith("stopped; figures come at the end")
    assert not any(scratch.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_is_not_lost_by_an_import_that_catches_everything(folder: Path) -> None:
    """NumPy's random numbers lose it so, now and then."""
    make_clip("good.mp4")
    (folder / "ray.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.01)\n"
        "except BaseException:\n    pass\n"
        "def init(**_): time.sleep(60)\n"
        "is_initialized = lambda: False\n"
    )
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*COMMAND, "pack", "good.mp4", "--engine", "ray", *SMALL],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_closed_pipe_is_not_a_traceback() -> None:
    with subprocess.Popen(
        [*COMMAND, "profile", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head -0` does
        assert b"Traceback" not in process.stderr.read()
