import json
import sys
from pathlib import Path

import numpy as np
import pytest

from gridctl.__main__ import main
from gridctl.dataset.grid_image import load_metadata
from gridctl.media.write import write_clip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no profile from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDCTL_PROFILE", raising=False)
    return tmp_path


def gridctl(*arguments: str) -> int:
    """Run the command line in this process → its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridctl", *arguments])
        try:
            return main()
        except SystemExit as end:
            return int(end.code or 0)


def make_clip(name: str, count: int = 8) -> Path:
    path = Path("videos", name)
    frames = np.random.default_rng(0).integers(0, 256, (count, 32, 48, 3), dtype=np.uint8)
    write_clip(frames, path, fps=8)
    return path


SMALL = ("--rows", "2", "--cols", "3", "--cell", "32x16")


def test_written_paths_are_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    make_clip("vid1.mp4")
    make_clip("vid2.mp4")
    assert gridctl("pack", "videos", *SMALL) == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == ["vidgrid/vid1.jpg", "vidgrid/vid2.jpg"]
    assert "No profile" in output.err
    metadata = load_metadata(Path("vidgrid/vid1.jpg"))
    assert metadata is not None
    assert str(metadata.grid) == "2x3 cells of 32x16, row-major"
    assert gridctl("pack", "videos", *SMALL, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_flags_reach_the_grid() -> None:
    make_clip("vid1.mp4", count=3)
    flags = ["--order", "serpentine", "--tail", "pad", "--format", "png", "-o", "out"]
    assert gridctl("pack", "videos/vid1.mp4", *SMALL, *flags) == 0
    metadata = load_metadata(Path("out/vid1.png"))
    assert metadata is not None
    assert (metadata.grid.order, metadata.num_frames) == ("serpentine", 3)


def test_flags_override_the_profile() -> None:
    make_clip("vid1.mp4")
    Path("mine.toml").write_text(
        '[grid]\nrows = 2\ncols = 4\ncell = "16x16"\n[pack]\nformat = "webp"\n'
    )
    assert gridctl("pack", "videos", "--profile", "mine.toml", "--cols", "2") == 0
    metadata = load_metadata(Path("vidgrid/vid1.webp"))
    assert metadata is not None
    assert str(metadata.grid) == "2x2 cells of 16x16, row-major"


def test_some_failures_end_with_3_and_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    make_clip("good.mp4")
    make_clip("short.mp4", count=2)
    Path("videos/text.mp4").write_text("no film")
    assert gridctl("pack", "videos", *SMALL, "--json") == 3
    output = capsys.readouterr()
    data = json.loads(output.out)
    assert data["written"] == ["vidgrid/good.jpg"]
    assert [failure["path"] for failure in data["failed"]] == [
        "videos/short.mp4",
        "videos/text.mp4",
    ]
    lines = [line for line in output.err.splitlines() if line.startswith("gridctl: ")]
    assert lines[0].startswith("gridctl: videos/short.mp4 has 2 frames; a 2x3 grid needs 6.")
    assert lines[1].startswith("gridctl: videos/text.mp4 cannot be read as a video")
    assert lines[2] == "gridctl: 2 of 3 could not be packed; the rest are done."
    assert len(lines) == 3
    assert sorted(path.name for path in Path("vidgrid").iterdir()) == ["good.jpg", "metadata.jsonl"]


def test_a_file_without_permissions_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    clips = [make_clip("vid1.mp4"), make_clip("vid2.mp4")]
    clips[1].chmod(0)
    # Typer asks this before the command runs, and root may read everything.
    monkeypatch.setattr(os, "access", lambda path, mode, **_: Path(path) != clips[1])
    assert gridctl("pack", *map(str, clips), *SMALL) == (0 if os.geteuid() == 0 else 3)
    assert Path("vidgrid/vid1.jpg").exists()
    assert Path("vidgrid/vid2.jpg").exists() == (os.geteuid() == 0)
    assert gridctl("unpack", "vidgrid/vid1.jpg", *map(str, clips[1:]), "-o", "out") == 3
    assert Path("out/vid1.mp4").exists()


def test_only_failures_end_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("pack", "missing.mp4") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "gridctl: missing.mp4 does not exist; check the name."
    )
    assert gridctl("pack", "missing.mp4", "gone.mp4") == 1
    assert len(capsys.readouterr().err.splitlines()) == 4  # the profile, a line each, the sum
    assert not Path("vidgrid").exists()


def test_a_name_with_a_line_break_is_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert gridctl("pack", "two\nlines.mp4", "--quiet") == 1
    assert capsys.readouterr().err == "gridctl: two\\nlines.mp4 does not exist; check the name.\n"


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--cell", "100x100"], "not a multiple of 16"),
        (["--rows", "0"], "rows"),
        (["--tail", "keep"], "tail"),
        (["--sample", "fps=0"], "sample"),
        (["--sample", "windos"], "choose uniform, windows, scenes, or fps=8"),
        (["--shard", "3/2"], "shard"),
        (["--start", "1:x"], "time"),
        (["--overlap", "24", "--sample", "windows"], "share 0 to 23"),
        (["--overlap", "2"], "--sample windows"),
        (["--stride", "4"], "--sample windows"),
        (["--rows", "100000", "--cols", "100000"], "megapixels"),
        (["--cols", "70", "--format", "webp"], "webp takes 16383"),
        (["--fit", "fill"], "fit"),
        (["--background", "nocolour"], "colour"),
        (["--format", "bmp"], "format"),
        (["--quality", "101"], "quality"),
        (["--order", "spiral"], "order"),
    ],
)
def test_wrong_values_end_with_2(
    flags: list[str], fact: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip("vid1.mp4")
    assert gridctl("pack", "videos", *flags) == 2
    error = capsys.readouterr().err
    assert fact in error
    assert len([line for line in error.splitlines() if line.startswith("gridctl: ")]) == 1
    assert not Path("vidgrid").exists()


def feed(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_a_list_in_any_unicode_encoding_names_its_clips_only(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "other.mp4"):
        make_clip(name)
    monkeypatch.chdir("videos")
    feed("a.mp4\r\n".encode(encoding), monkeypatch)
    assert gridctl("pack", "-", *SMALL, "-o", "../out") == 0
    assert [path.name for path in Path("../out").glob("*.jpg")] == ["a.jpg"]


@pytest.mark.parametrize("line", [".", "/", "..", "../videos", "./"])
def test_a_list_never_means_the_current_folder_or_one_above(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip("a.mp4")
    monkeypatch.chdir("videos")
    feed(f"a.mp4\n{line}\n".encode(), monkeypatch)
    assert gridctl("pack", "-", *SMALL) == 2
    assert f"entry 2 of the list on stdin is {line!r}" in capsys.readouterr().err
    assert not Path("vidgrid").exists()


def test_lists_that_were_joined_have_marks_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "b.mp4"):
        make_clip(name)
    feed(b"\xef\xbb\xbfvideos/a.mp4\n\xef\xbb\xbfvideos/b.mp4\n", monkeypatch)
    assert gridctl("pack", "-", *SMALL) == 0
    assert {path.stem for path in Path("vidgrid").glob("*.jpg")} == {"a", "b"}


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xff\xfea", b"\xef\xbb\xbf\xff"])
def test_an_empty_or_damaged_list_is_one_line(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(data, monkeypatch)
    assert gridctl("pack", "-", "--quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gridctl: the list on stdin is ")


@pytest.mark.parametrize("flag", ["--output={}", "--output {}", "-o{}"])
def test_home_in_paths(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    Path("home").mkdir()
    make_clip("a.mp4").rename("home/a.mp4")
    assert gridctl("pack", "~/a.mp4", *SMALL, *flag.format("~/out").split()) == 0
    assert Path("home/out/a.jpg").exists()
    assert not Path("~").exists()
    Path("home/mine.toml").write_text('pack.format = "png"')
    monkeypatch.setenv("GRIDCTL_PROFILE", "~/mine.toml")
    assert gridctl("pack", "~/a.mp4", *SMALL, "-o", "~/png") == 0
    assert Path("home/png/a.png").exists()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_paths_on_stdin(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a\nb.mp4", "c.mp4"] if end == "\0" else ["a b.mp4", "c\u2028d\f.mp4"]
    for name in names:
        make_clip(name)
    feed("".join(f"videos/{name}{end}" for name in names).encode(), monkeypatch)
    assert gridctl("pack", "-", *SMALL) == 0
    assert {path.stem for path in Path("vidgrid").glob("*.jpg")} == {
        Path(name).stem for name in names
    }
    feed(b"", monkeypatch)
    assert gridctl("pack", "-", *SMALL) == 2


def test_a_dry_run_prints_what_would_be_and_writes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_clip("vid1.mp4", count=20)
    flags = ["--sample", "windows", "--stride", "1"]
    assert gridctl("pack", "videos", *SMALL, *flags, "--dry-run") == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == [f"vidgrid/vid1_000{k}.jpg" for k in (1, 2, 3)]
    assert "2 of 20 frames left over" in output.err
    assert not Path("vidgrid").exists()
    assert gridctl("pack", "videos", *SMALL, *flags) == 0
    assert len(list(Path("vidgrid").glob("*.jpg"))) == 3
    capsys.readouterr()
    assert gridctl("pack", "videos", *SMALL, *flags, "--dry-run") == 0
    assert capsys.readouterr().out == ""  # all of it is there


def test_window_flags_reach_the_grids() -> None:
    make_clip("vid1.mp4", count=40)
    flags = ["--sample", "fps=4", "--overlap", "2", "--start", "0:01", "--end", "4.5"]
    flags += ["--max-grids", "2", "--fit", "pad", "--background", "#ff0000", "--workers", "1"]
    assert gridctl("pack", "videos", *SMALL, *flags) == 0
    metadata = [load_metadata(Path(f"vidgrid/vid1_000{k}.jpg")) for k in (1, 2)]
    assert [f.times_seconds[0] for f in metadata if f] == [1.0, 2.0]
    assert [f.fps for f in metadata if f] == [4.0, 4.0]
    assert not Path("vidgrid/vid1_0003.jpg").exists()


def test_shards_write_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        make_clip(f"vid{number}.mp4")
    for shard in ("1/2", "2/2"):
        assert gridctl("pack", "videos", *SMALL, "--shard", shard) == 0
    assert capsys.readouterr().out.splitlines() == [
        "vidgrid/shard-1-of-2/vid0.jpg",
        "vidgrid/shard-1-of-2/vid2.jpg",
        "vidgrid/shard-2-of-2/vid1.jpg",
    ]
    lists = sorted(path.parent.name for path in Path("vidgrid").rglob("metadata.jsonl"))
    assert lists == ["shard-1-of-2", "shard-2-of-2"]
