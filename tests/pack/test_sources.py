import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import UsageError
from gridctl.pack.sources import find_clips


def names(sources: list[Path], output: Path, **options: object) -> list[str]:
    clips = find_clips(sources, output, first_name="{}.jpg", **options)  # type: ignore[arg-type]
    return [(clip.folder / clip.name).relative_to(output).as_posix() for clip in clips]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_shards_are_disjoint_complete_and_by_themselves(tmp_path: Path) -> None:
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


def test_animated_images_are_clips_and_still_ones_are_frames(tmp_path: Path) -> None:
    stills, clips = tmp_path / "stills", tmp_path / "clips"
    frames = [Image.fromarray(np.full((8, 8, 3), 90 * k, np.uint8)) for k in range(3)]
    for folder in (stills, clips):
        folder.mkdir()
        frames[0].save(folder / "a.png")
        frames[1].save(folder / "b.webp")
    frames[0].save(clips / "c.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert names([stills], tmp_path / "out") == ["stills"]
    assert names([clips], tmp_path / "out") == ["c"]


def test_images_do_not_hide_what_lies_below_them(tmp_path: Path) -> None:
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
def test_a_linked_folder_of_frames_has_the_name_of_the_link(
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
def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "b" / "vid.mp4")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    assert names([tmp_path / "a"], tmp_path / "out") == ["b/vid"]
