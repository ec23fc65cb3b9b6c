import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import load_grid, load_metadata, split
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.media.write import write_clip
from gridctl.pack import pack
from tests.settings import pack_profile

GRID = Grid(rows=2, cols=3, cell=(32, 16))


def counted(count: int) -> np.ndarray:
    """Frames whose grey level tells their number: 10 k + 20."""
    levels = (np.arange(count) * 10 + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, 32, 64, 3)).copy()


def make_clip(path: Path, count: int = 11, fps: float = 12) -> Path:
    write_clip(counted(count), path, fps=fps)
    return path


def numbers(path: Path) -> list[int]:
    image, metadata = load_grid(path)
    assert metadata is not None
    return [round((float(frame.mean()) - 20) / 10) for frame in split(image, metadata.grid)]


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_pack_does_not_pack_its_own_output(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4")
    for _ in range(2):
        result = pack([tmp_path], tmp_path / "vidgrid", pack_profile(GRID))
        assert not result.failed
        assert [path.name for path in (*result.written, *result.skipped)] == ["clip.jpg"]


def test_a_folder_of_videos_becomes_a_dataset_folder(tmp_path: Path) -> None:
    source, output = tmp_path / "videos", tmp_path / "vidgrid"
    make_clip(source / "vid1.mp4")
    make_clip(source / "vid2.gif")
    (source / "vid1.txt").write_text("ein Bär läuft\n", encoding="utf-8")
    result = pack([source], output, pack_profile(GRID))
    assert (result.skipped, result.failed) == ((), ())
    assert files(output) == ["metadata.jsonl", "vid1.jpg", "vid2.jpg"]
    assert numbers(output / "vid1.jpg") == [0, 2, 4, 6, 8, 10]
    metadata = load_metadata(output / "vid1.jpg")
    assert metadata is not None
    assert (metadata.grid, metadata.num_frames, metadata.text) == (GRID, 6, "ein Bär läuft")
    assert metadata.source == "../videos/vid1.mp4"
    assert metadata.num_frames / metadata.fps == pytest.approx(11 / 12)
    lines = (output / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["file_name"] for line in lines] == ["vid1.jpg", "vid2.jpg"]


def test_sub_folders_are_kept(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "vidgrid"
    make_clip(source / "train" / "vid1.mp4")
    make_clip(source / "val" / "vid1.mp4")
    folder = source / "train" / "sequence1"
    folder.mkdir()
    for number, picture in enumerate(counted(11), start=1):
        Image.fromarray(picture).save(folder / f"frame_{number}.png")
    pack([source], output, pack_profile(GRID, format="png"))
    assert files(output) == [
        "train/metadata.jsonl",
        "train/sequence1.png",
        "train/vid1.png",
        "val/metadata.jsonl",
        "val/vid1.png",
    ]
    assert numbers(output / "train" / "sequence1.png") == [0, 2, 4, 6, 8, 10]


def test_a_folder_of_frames_is_one_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sequence1"
    folder.mkdir()
    for number, picture in enumerate(counted(6)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    (tmp_path / "sequence1.txt").write_text("a ramp")
    monkeypatch.chdir(folder)
    result = pack([Path()], tmp_path / "out", pack_profile(GRID))
    assert result.written == (tmp_path / "out" / "sequence1.jpg",)
    metadata = load_metadata(result.written[0])
    assert metadata is not None
    assert metadata.text == "a ramp"


def test_clips_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    first = make_clip(tmp_path / "a" / "vid1.mp4")
    second = make_clip(tmp_path / "b" / "vid1.mp4")
    third = make_clip(tmp_path / "b" / "VID1.gif")
    output = tmp_path / "out"
    for _ in range(2):  # the same names on the second run
        result = pack([first, second, third], output, pack_profile(GRID))
        assert [path.name for path in (*result.written, *result.skipped)] == [
            "vid1.jpg",
            "vid1-mp4.jpg",
            "VID1-gif.jpg",
        ]
    assert len(result.skipped) == 3


def test_one_bad_source_does_not_stop_the_others(tmp_path: Path) -> None:
    source, output = tmp_path / "videos", tmp_path / "vidgrid"
    make_clip(source / "good.mp4")
    make_clip(source / "short.mp4", count=3)
    (source / "text.mp4").write_text("no film")
    (source / "zero.mp4").touch()
    (tmp_path / "empty").mkdir()
    missing = tmp_path / "missing.mp4"
    result = pack([source, tmp_path / "empty", missing], output, pack_profile(GRID))
    assert result.written == (output / "good.jpg",)
    assert [failure.path.name for failure in result.failed] == [
        "short.mp4",
        "text.mp4",
        "zero.mp4",
        "empty",
        "missing.mp4",
    ]
    for failure in result.failed:
        assert str(failure.path) in failure.reason
        assert "\n" not in failure.reason
    assert files(output) == ["good.jpg", "metadata.jsonl"]


def test_a_second_run_finishes_the_rest(tmp_path: Path) -> None:
    source, output = tmp_path / "videos", tmp_path / "vidgrid"
    make_clip(source / "vid1.mp4")
    make_clip(source / "vid2.mp4")
    pack([source], output, pack_profile(GRID))
    before = (output / "vid1.jpg").stat().st_mtime_ns
    (output / "vid2.jpg").unlink()
    result = pack([source], output, pack_profile(GRID))
    assert (result.written, result.skipped) == ((output / "vid2.jpg",), (output / "vid1.jpg",))
    assert (output / "vid1.jpg").stat().st_mtime_ns == before
    assert len(pack([source], output, pack_profile(GRID), force=True).written) == 2
    assert (output / "vid1.jpg").stat().st_mtime_ns != before


def test_a_changed_source_or_setting_makes_grids_again(tmp_path: Path) -> None:
    clip, output = make_clip(tmp_path / "vid1.mp4"), tmp_path / "vidgrid"
    pack([clip], output, pack_profile(GRID))
    other = Grid(rows=2, cols=2, cell=(16, 16))
    assert pack([clip], output, pack_profile(other)).written == (output / "vid1.jpg",)
    assert len(numbers(output / "vid1.jpg")) == 4
    assert pack([clip], output, pack_profile(other, quality=80)).written
    clip.unlink()
    make_clip(clip, count=4)
    assert pack([clip], output, pack_profile(other, quality=80)).written
    assert numbers(output / "vid1.jpg") == [0, 1, 2, 3]
    (tmp_path / "vid1.txt").write_text("a ramp")
    assert pack([clip], output, pack_profile(other, quality=80)).written
    assert pack([clip], output, pack_profile(other, quality=80)).skipped


def test_a_grid_of_another_source_is_never_overwritten(tmp_path: Path) -> None:
    first, second = (make_clip(tmp_path / name / "vid1.mp4") for name in "ab")
    output = tmp_path / "out"
    pack([first], output, pack_profile(GRID))
    before = (output / "vid1.jpg").read_bytes()
    for force in (False, True):
        result = pack([second], output, pack_profile(GRID), force=force)
        assert result.written == (output / "vid1-mp4.jpg",)
        assert (output / "vid1.jpg").read_bytes() == before


def test_tail_pad_repeats_the_last_frame(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "vid1.mp4", count=4)
    result = pack([clip], tmp_path / "out", pack_profile(GRID, tail="pad"))
    assert numbers(result.written[0]) == [0, 1, 2, 3, 3, 3]
    metadata = load_metadata(result.written[0])
    assert metadata is not None
    assert (metadata.num_frames, len(metadata.times_seconds)) == (4, 4)


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "videos"
    make_clip(source / "deep" / "vid1.mp4")
    (source / "deep" / "loop").symlink_to(source, target_is_directory=True)
    result = pack([source], tmp_path / "out", pack_profile(GRID))
    assert result.written == (tmp_path / "out" / "deep" / "vid1.jpg",)


@pytest.mark.parametrize("name", ["two\nlines.mp4", "\U0001f43b bear.mp4", "-dash.mp4", "a:b.mp4"])
def test_odd_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "x.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    result = pack([Path(name)], Path("out"), pack_profile(GRID))
    assert [path.stem for path in result.written] == [Path(name).stem]
    assert (
        json.loads(Path("out/metadata.jsonl").read_text(encoding="utf-8"))["source"] == f"../{name}"
    )


def test_a_clip_is_recognized_from_any_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one of the same relative path in another place is another clip."""
    for place in ("here", "there"):
        make_clip(tmp_path / place / "clips" / "vid1.mp4", count=len(place) + 8)
    output = tmp_path / "out"
    monkeypatch.chdir(tmp_path / "here")
    assert [path.name for path in pack([Path("clips")], output, pack_profile(GRID)).written] == [
        "vid1.jpg"
    ]
    monkeypatch.chdir(tmp_path / "there")
    second = pack([Path("clips")], Path("../out"), pack_profile(GRID)).written
    assert [path.name for path in second] == ["vid1-mp4.jpg"]
    absolute = pack([tmp_path / "here" / "clips"], output, pack_profile(GRID))
    assert not absolute.written
    assert [path.name for path in absolute.skipped] == ["vid1.jpg"]


def test_a_name_that_is_not_unicode_is_packed(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    make_clip(tmp_path / "x.mp4").rename(tmp_path / name)
    result = pack([tmp_path / name], tmp_path / "out", pack_profile(GRID))
    assert result.failed == ()
    assert result.written == (tmp_path / "out" / "caf_.jpg",)


def test_an_unwritable_output_is_one_error(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "vid1.mp4")
    (tmp_path / "out").write_text("a file, no folder")
    for output in ("out", "out/deeper", "/proc/x"):
        with pytest.raises(InputError, match=f"{output} cannot be written") as caught:
            pack([clip], tmp_path / output, pack_profile(GRID))
        assert "\n" not in str(caught.value)


def test_unwritable_metadata_hide_nothing_else(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / "vid1.mp4"), make_clip(tmp_path / "vid2.mp4", count=2)]
    output = tmp_path / "out"
    (output / "metadata.jsonl").mkdir(parents=True)
    result = pack(clips, output, pack_profile(GRID))
    assert result.written == (output / "vid1.jpg",)
    assert [failure.path.name for failure in result.failed] == ["vid2.mp4", "metadata.jsonl"]


def test_wrong_options_are_refused_before_any_work(tmp_path: Path) -> None:
    wrong: list[tuple[str, object]] = [
        ("format", "bmp"), ("tail", "keep"), ("sample", "fps=0"), ("sample", "random"),
        ("stride", 0), ("overlap", 6), ("start", -1.0), ("end", 0.0),
        ("max_grids", 0), ("fit", "fill"), ("background", "nocolour"), ("quality", 0),
    ]  # fmt: skip
    for name, value in wrong:
        with pytest.raises(UsageError, match=str(value)) as caught:
            pack(
                [tmp_path],
                tmp_path / "out",
                pack_profile(GRID, **{"sample": "windows", name: value}),
            )
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="3/2"):
        pack([tmp_path], tmp_path / "out", pack_profile(GRID), shard=(3, 2))
    assert not (tmp_path / "out").exists()


def test_progress_counts_clips_and_shows_the_rate(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / f"vid{k}.mp4") for k in range(2)]
    seen: list[tuple[int, int, str]] = []
    pack(clips, tmp_path / "out", pack_profile(GRID), progress=lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(0, 2), (1, 2), (2, 2)]
    assert all("grids/s" in text for _, _, text in seen[1:])
    assert {text.split()[-1] for _, _, text in seen[1:]} == {"vid0.mp4", "vid1.mp4"}


def test_an_image_that_is_no_grid_is_not_overwritten(tmp_path: Path) -> None:
    clip, output = make_clip(tmp_path / "vid1.mp4"), tmp_path / "out"
    output.mkdir()
    Image.new("RGB", (8, 8)).save(output / "vid1.jpg")
    before = (output / "vid1.jpg").read_bytes()
    assert len(pack([clip], output, pack_profile(GRID)).failed) == 1
    assert (output / "vid1.jpg").read_bytes() == before


def test_a_closed_folder_does_not_stop_the_rest(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    make_clip(tmp_path / "videos" / "vid1.mp4")
    closed = tmp_path / "videos" / "closed"
    closed.mkdir(mode=0)
    result = pack([tmp_path / "videos"], tmp_path / "out", pack_profile(GRID))
    closed.chmod(0o700)
    assert [failure.path for failure in result.failed] == [closed]
    assert len(result.written) == 1
