import os
import random
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from gridctl.errors import UsageError
from gridctl.pack.sources import find_clips
from gridctl.storage import as_path
from tests.media.clips import write


def names(sources: list[Path], output: Path, **options: object) -> list[str]:
    clips = find_clips(sources, output, first_name="{}.jpg", **options).clips  # type: ignore[arg-type]
    return [(clip.folder / clip.name).relative_to(output).as_posix() for clip in clips]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_shards_are_disjoint_and_complete(tmp_path: Path) -> None:
    for number in range(7):
        touch(tmp_path / "videos" / "train" / f"vid{number}.mp4")
    found = []
    for shard in (1, 2, 3):
        made = names([tmp_path / "videos"], tmp_path / "out", shard=(shard, 3))
        assert all(name.startswith(f"train/shard-{shard}-of-3/") for name in made)
        found += [Path(name).name for name in made]
    assert sorted(found) == [f"vid{number}" for number in range(7)]
    assert len(found) == 7
    for shard in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(UsageError, match="shard"):
            find_clips([tmp_path], tmp_path / "out", first_name="{}.jpg", shard=shard)


@pytest.mark.parametrize("kind", ["list", "folders", "bucket"])
def test_shards_do_not_depend_on_the_order(tmp_path: Path, kind: str) -> None:
    found = ["a/vid2.mp4", "a/vid10.mp4", "b/vid1.mp4", "b/c/vid1.mp4", "B/vid3.mp4", "vid3.mp4"]
    root = tmp_path if kind != "bucket" else as_path("memory://shards")
    for name in found:
        if kind == "bucket":
            fsspec.filesystem("memory").pipe(str(root / name), b"x")
        else:
            touch(root / name)
    sources = [root / name for name in found]
    if kind == "folders":
        sources = [root / "a", root / "b", root / "b" / "c", root / "B", root / "vid3.mp4"]
    # In natural order: a/vid2, a/vid10, B/vid3, b/c/vid1, b/vid1, vid3.
    parts = [{"a/vid2.mp4", "B/vid3.mp4", "b/vid1.mp4"}]
    parts += [{"a/vid10.mp4", "b/c/vid1.mp4", "vid3.mp4"}]
    for seed in range(5):
        shuffled = random.Random(seed).sample(sources, len(sources))
        for number, part in enumerate(parts, 1):
            output = tmp_path / "out"
            clips = find_clips(shuffled, output, first_name="{}.jpg", shard=(number, 2)).clips
            assert {clip.path.relative_to(root).as_posix() for clip in clips} == part


def test_animations_are_clips_and_stills_frames(tmp_path: Path) -> None:
    stills, clips = tmp_path / "stills", tmp_path / "clips"
    frames = [Image.fromarray(np.full((8, 8, 3), 90 * k, np.uint8)) for k in range(3)]
    for folder in (stills, clips):
        folder.mkdir()
        frames[0].save(folder / "a.png")
        frames[1].save(folder / "b.webp")
    frames[0].save(clips / "c.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert names([stills], tmp_path / "out") == ["stills"]
    assert names([clips], tmp_path / "out") == ["c"]


def test_folders_below_a_folder_of_images_are_searched(tmp_path: Path) -> None:
    touch(tmp_path / "videos" / "poster.jpg")
    touch(tmp_path / "videos" / "train" / "vid1.mp4")
    touch(tmp_path / "videos" / "train" / "sequence1" / "frame_1.png")
    touch(tmp_path / "videos" / "train" / "sequence1" / "masks" / "mask_1.png")
    assert names([tmp_path / "videos"], tmp_path / "out") == [
        "videos",
        "train/sequence1",
        "train/sequence1/masks",
        "train/vid1",
    ]


def test_a_clip_that_is_named_twice_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = touch(tmp_path / "videos" / "train" / "vid1.mp4")
    touch(tmp_path / "videos" / "vid2.mp4")
    monkeypatch.chdir(tmp_path)
    twice = [tmp_path / "videos", first, Path("videos/vid2.mp4")]
    assert names(twice, tmp_path / "out") == ["train/vid1", "vid2"]
    shards = [names(twice, tmp_path / "out", shard=(shard, 2)) for shard in (1, 2)]
    assert shards == [["train/shard-1-of-2/vid1"], ["shard-2-of-2/vid2"]]


def test_a_hidden_name_is_not_hidden_in_the_dataset(tmp_path: Path) -> None:
    source = touch(tmp_path / "..secret.mp4")
    assert names([source], tmp_path / "out") == ["secret"]


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_a_linked_folder_is_named_like_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = touch(tmp_path / "archive" / "0001" / "frame_1.png").parent
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "bear").symlink_to(folder, target_is_directory=True)
    assert names([tmp_path / "train"], tmp_path / "out") == ["bear"]
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert names([Path("..")], tmp_path / "out") == ["0001"]


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_links_in_a_circle_are_not_followed_forever(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "b" / "vid.mp4")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    assert names([tmp_path / "a"], tmp_path / "out") == ["b/vid"]


def test_clips_are_known_by_content(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    for name in ("tape.m2t", "film", "b.ogg"):
        clip = write(
            tmp_path / "clip.mkv", np.zeros((4, 32, 32, 3), np.uint8), codec="mpeg2video", fps=25
        )
        folder.mkdir(exist_ok=True)
        clip.rename(folder / name)
    (folder / "film.txt").write_text("a film")
    for name in ("script.pdf", "sound.ogg", "x/notes.xyz"):
        touch(folder / name).write_text("no film")
    touch(folder / "poster.jpg")
    found = find_clips([folder], tmp_path / "out", first_name="{}.jpg")
    assert [clip.path.name for clip in found.clips] == ["b.ogg", "film", "tape.m2t"]
    assert found.notes == (
        f"1 image beside videos left out, such as {folder / 'poster.jpg'}; to pack images, give "
        "them a folder without videos",
        f"3 files left out, such as {folder / 'script.pdf'}: no videos or images that gridctl "
        "reads",
    )


def test_folders_of_systems_are_no_clips(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    touch(folder / "vid.mp4")
    for system in ("@eaDir/vid.mp4", "#recycle", "$RECYCLE.BIN", "__MACOSX", ".Trashes"):
        touch(folder / system / "thumb.jpg")
        touch(folder / system / "old.mp4")
    touch(folder / "Thumbs.db")
    found = find_clips([folder], tmp_path / "out", first_name="{}.jpg")
    assert [clip.path.name for clip in found.clips] == ["vid.mp4"]
    assert found.notes == ()


def test_finding_clips_takes_linear_work(tmp_path: Path) -> None:
    """Counted in calls of Python functions, which a busy machine does not change."""

    def calls(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"video_{number:06}_some_name.mp4").touch()
        counted = 0

        def count_call(_frame: object, event: str, _argument: object) -> None:
            nonlocal counted
            counted += event == "call"

        sys.setprofile(count_call)
        try:
            found = find_clips([folder], tmp_path / "out", first_name="{}.jpg").clips
        finally:
            sys.setprofile(None)
        assert len(found) == count
        return counted

    calls(10)
    assert calls(2000) < 5 * calls(500)  # 4 times, and 16 if it were quadratic
