import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gridctl as package
from gridctl.__main__ import main
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.geometry import Grid

GRID = Grid(rows=1, cols=1, cell=(16, 16))


@pytest.fixture(autouse=True)
def grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a grid that a name describes, and one that nothing does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDCTL_PROFILE", raising=False)
    for name in ("red_ball", "0001"):
        metadata = GridMetadata(grid=GRID, source=name, times_seconds=(0.0,), fps=1.0, num_frames=1)
        save_grid(np.zeros((16, 16, 3), np.uint8), Path("vidgrid", f"{name}.png"), metadata)
    return tmp_path


def gridctl(*arguments: str) -> int:
    """Run the command line in this process → its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridctl", *arguments])
        try:
            return main()
        except SystemExit as end:
            return int(end.code or 0)


def test_a_grid_without_content_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("caption", "vidgrid", "--json") == 3
    output = capsys.readouterr()
    assert json.loads(output.out)["written"] == ["vidgrid/red_ball.txt"]
    assert "--subject" in output.err


def test_subject_and_layout_come_from_flags_or_profile() -> None:
    Path("mine.toml").write_text('[caption]\nsubject = "a cat"\nlayout = "turn"\n')
    assert gridctl("caption", "vidgrid", "--profile", "mine.toml") == 0
    text = Path("vidgrid/0001.txt").read_text()
    assert text == "1x1 grid of 1 views of one full turn in reading order. a cat\n"
    flags = ["--layout", "{rows}/{cols}:", "--subject", "a dog", "--force"]
    assert gridctl("caption", "vidgrid", "--profile", "mine.toml", *flags) == 0
    assert Path("vidgrid/0001.txt").read_text() == "1/1: a dog\n"
    lines = Path("vidgrid/metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["1/1: a dog", "1/1: a dog"]


def test_a_wrong_layout_ends_with_2() -> None:
    assert gridctl("caption", "vidgrid", "--layout", "{wrong} grid") == 2
    assert not list(Path("vidgrid").glob("*.txt"))


def test_a_broken_image_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("vidgrid/broken.jpg").write_bytes(b"no picture")
    assert gridctl("caption", "vidgrid", "--subject", "a ball", "--json") == 3
    output = capsys.readouterr()
    assert len(json.loads(output.out)["written"]) == 2
    assert "broken.jpg" in output.err
    listed = Path("vidgrid/metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["file_name"] for line in listed] == ["0001.png", "red_ball.png"]


def test_a_dry_run_shows_three_and_writes_none(capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(3):
        shutil.copy("vidgrid/red_ball.png", f"vidgrid/red_ball{k}.png")
    before = sorted(Path("vidgrid").iterdir())
    assert gridctl("caption", "vidgrid", "--subject", "a ball", "--dry-run") == 0
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 3
    assert "reading order. a ball" in output.out
    assert "nothing is written" in output.err
    assert sorted(Path("vidgrid").iterdir()) == before


def test_a_mapping_file_is_read_and_its_unused_names_are_noted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("map.toml").write_text('0001 = "a hen"\nred_bal = "oops"\n')
    assert gridctl("caption", "vidgrid", "--mapping", "map.toml") == 0
    assert Path("vidgrid/0001.txt").read_text().endswith(" a hen\n")
    assert "1 name in the mapping match no grid, such as red_bal" in capsys.readouterr().err


def test_check_lists_faults_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("0001", "red_ball"):
        Path(f"vidgrid/{name}.txt").write_text("a ball")
    assert gridctl("caption", "vidgrid", "--check") == 1
    output = capsys.readouterr()
    assert "vidgrid/red_ball.txt: the same as vidgrid/0001.txt" in output.out
    assert "1 of 2 captions have a fault" in output.err
    Path("vidgrid/red_ball.txt").write_text("a red ball")
    assert gridctl("caption", "vidgrid", "--check", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"grids": 2, "findings": []}


def test_one_subject_for_all_clips_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("caption", "vidgrid", "--subject", "a corgi runs on a beach") == 0
    assert "the same" not in capsys.readouterr().err
    assert gridctl("caption", "vidgrid", "--check") == 0


def test_a_run_ends_with_a_check_of_all_captions(capsys: pytest.CaptureFixture[str]) -> None:
    Path("vidgrid/0001.txt").write_text("9x9 grid of 81 video frames in reading order. a cat")
    assert gridctl("caption", "vidgrid") == 0
    assert 'vidgrid/0001.txt: says "9x9 grid of 81' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["IMG_{}.MOV", "clip_{}.mp4", "beach {}.mp4"])
def test_names_that_say_nothing_or_the_same_are_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4000, 4012):
        metadata = GridMetadata(
            grid=GRID, source=name.format(number), times_seconds=(0.0,), fps=1.0, num_frames=1
        )
        save_grid(np.zeros((16, 16, 3), np.uint8), Path(f"others/vid{number}.png"), metadata)
    assert gridctl("caption", "others", "--quiet") == 1
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1
    assert "--subject if one sentence fits all clips" in output.err
    assert not list(Path("others").glob("*.txt"))
    assert gridctl("caption", "others", "--subject", "a corgi runs on a beach") == 0
    assert gridctl("caption", "others", "--check") == 0


@pytest.mark.parametrize("flags", [[], ["--force"], ["--subject", "a cat"]])
def test_a_mapping_that_names_no_grid_is_refused(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("map.toml").write_text('"vid1.mp4" = "a hen"\n')
    assert gridctl("caption", "vidgrid", "--mapping", "map.toml", *flags) == 1
    assert 'map.toml names none of 2 grids: it has "vid1.mp4"' in capsys.readouterr().err
    assert not list(Path("vidgrid").glob("*.txt"))


def test_a_mapping_of_captions_that_are_there_lets_the_rest_be_done() -> None:
    Path("map.toml").write_text('"red_ball" = "a red ball"\n')
    assert gridctl("caption", "vidgrid", "--mapping", "map.toml") == 3
    assert gridctl("caption", "vidgrid", "--mapping", "map.toml", "--subject", "a cat") == 0
    assert Path("vidgrid/0001.txt").read_text().endswith(" a cat\n")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--backend", "oracle"], "choose template, vlm or server"),
        (["--backend", "server"], "add --server URL"),
        (["--server", "localhost:8000"], "not the address of an HTTP server"),
        (["--server", "http://me:secret@host/v1", "--model", "m"], "holds a password"),
        (["--model", "a/b"], "add --backend vlm or --backend server"),
        (["--view", "frames"], "the backend template does not use --view"),
        (["--backend", "vlm", "--server", "http://h/v1"], "the backend vlm does not use --server"),
        (["--rate", "5"], "the backend template does not use --rate"),
        (["--view", "film"], "choose grid, keyframes or frames"),
        (["--prompt", "{oops}"], "cannot be filled in"),
        (["--rate", "0"], "must be more than 0"),
        (["--mapping", "map.xlsx"], "is not a mapping"),
        (["--subject", os.fsdecode(b"a caf\xe9")], "not UTF-8"),
        (["--layout", os.fsdecode(b"{rows} caf\xe9")], "not UTF-8"),
        (["--prompt", os.fsdecode(b"a caf\xe9")], "not UTF-8"),
        (["--subject", "a video"], "does not say what a clip shows"),
    ],
)
def test_wrong_flags_end_with_2_and_one_line(
    flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gridctl("caption", "vidgrid", *flags, "--quiet") == 2
    told = capsys.readouterr().err
    assert reason in told
    assert "secret" not in told
    assert len(told.splitlines()) == 1
    assert not list(Path("vidgrid").glob("*.txt"))


def test_the_limits_of_tiny_count_only_if_a_profile_chose_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    subject = "A red circle moves right on a black background. " * 20
    assert gridctl("caption", "vidgrid", "--subject", subject) == 0
    whole = Path("vidgrid/0001.txt").read_text()
    assert "cut" not in capsys.readouterr().err
    assert gridctl("caption", "vidgrid", "--subject", subject, "--profile", "tiny", "--force") == 0
    assert "2 captions cut to the 40 tokens that T5 reads" in capsys.readouterr().err
    assert whole.startswith(Path("vidgrid/0001.txt").read_text().strip())


def test_the_template_needs_no_model_library() -> None:
    script = (
        "import sys; from gridctl.__main__ import main\n"
        "sys.argv = ['gridctl', 'caption', 'vidgrid', '--subject', 'a cat', '--profile', 'tiny']\n"
        "assert main() == 0\n"
        "assert not {'torch', 'transformers', 'requests'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
