from pathlib import Path

import pytest

from gridctl.caption import caption
from gridctl.geometry import Grid
from gridctl.pack import pack
from gridctl.profile import load_profile
from tests.media.clips import counted, make_clip
from tests.settings import pack_profile


@pytest.mark.slow
def test_hugging_face_loads_the_folder_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    for split, count in (("train", 3), ("val", 1)):
        (tmp_path / "videos" / split).mkdir(parents=True)
        for number in range(count):
            make_clip(tmp_path / "videos" / split / f"vid{number}.mp4", counted(9))
    output = tmp_path / "vidgrid"
    grid = Grid(rows=2, cols=2, cell=(32, 32))
    profile = pack_profile(grid, sample="windows", tail="pad")
    for shard in (1, 2):  # two jobs of an array; the parent folder is the whole dataset
        pack([tmp_path / "videos"], output, profile, shard=(shard, 2))
    caption([output], load_profile(None, {"caption.subject": "a ramp"}).profile)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(output), cache_dir=str(tmp_path / "c")
    )
    assert {name: len(split) for name, split in loaded.items()} == {"train": 9, "validation": 3}
    row = loaded["train"][2]
    assert row["image"].size == grid.image_size
    assert "a ramp" in row["text"]
    assert (row["rows"], row["cols"], row["num_frames"]) == (2, 2, 1)
    assert row["part"] == [3, 3]
