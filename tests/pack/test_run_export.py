"""`pack --to`: shards that other tools load, and that unpack and train read like the folder."""

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from gridctl.caption import caption
from gridctl.dataset.fetch import as_folder
from gridctl.dataset.shards import ShardFormat
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.pack import pack
from gridctl.profile import Profile, load_profile
from gridctl.train.data import read_dataset
from gridctl.unpack import unpack
from tests.media.clips import counted, make_clip
from tests.settings import pack_profile, unpack_profile

GRID = Grid(rows=2, cols=2, cell=(64, 64))
FORMATS: tuple[ShardFormat, ...] = ("webdataset", "parquet")


@pytest.fixture
def vidgrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A captioned folder of five clips, one of them in val/; take.1 has two grids."""
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["take.1", "vid1", "vid2", "vid3", "val/vid4"]):
        frames = counted(8 if number == 0 else 4, size=(128, 128), step=6 + number)
        path = tmp_path / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_clip(path, frames)
    folder = tmp_path / "vidgrid"
    pack([tmp_path / "videos"], folder, profile())
    contents = {"take.1": "a bear runs", "vid1": "a cat sits", "vid2": "ein Bär läuft"}
    contents |= {"vid3": "a car turns", "vid4": "a dog jumps"}
    mapping = tmp_path / "contents.toml"
    mapping.write_text("".join(f'"{name}" = "{text}"\n' for name, text in contents.items()))
    caption([folder], load_profile(None, {"caption.mapping": str(mapping)}).profile)
    return folder


def profile(**keys: object) -> Profile:
    return pack_profile(GRID, sample="windows", format="png", **keys)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("to", FORMATS)
def test_the_shards_hold_the_whole_folder(vidgrid: Path, to: ShardFormat) -> None:
    before = content(vidgrid)
    result = pack([Path("videos")], vidgrid, profile(to=to))
    output = vidgrid.with_name(f"vidgrid-{to}")
    suffix = {"webdataset": "tar", "parquet": "parquet"}[to]
    names = [f"{split}-00000-of-00001.{suffix}" for split in ("train", "val")]
    assert [path.name for path in result.written] == names
    assert sorted(content(output)) == sorted(names)
    held = content(as_folder(output))
    assert held == {name: data for name, data in before.items() if "jsonl" not in name}
    # Again: skipped, and byte for byte the same with force.
    shards = content(output)
    again = pack([Path("videos")], vidgrid, profile(to=to))
    assert again.written == ()
    assert [path.name for path in again.skipped[-2:]] == names
    (vidgrid / "vid1_0001.txt").write_text("a new caption")
    third = pack([Path("videos")], vidgrid, profile(to=to))
    assert [path.name for path in third.written] == names[:1]
    (vidgrid / "vid1_0001.txt").write_bytes(before["vid1_0001.txt"])
    pack([Path("videos")], vidgrid, profile(to=to))
    assert content(output) == shards


@pytest.mark.parametrize("to", FORMATS)
def test_train_and_unpack_read_shards_like_the_folder(vidgrid: Path, to: ShardFormat) -> None:
    pack([Path("videos")], vidgrid, profile(to=to))
    output = vidgrid.with_name(f"vidgrid-{to}")
    of_folder, of_shards = (read_dataset(as_folder(f), GRID) for f in (vidgrid, output))
    for split in ("train", "validation"):
        expected, found = getattr(of_folder, split), getattr(of_shards, split)
        assert [(s.captions, s.metadata, s.digest) for s in found] == [
            (s.captions, s.metadata, s.digest) for s in expected
        ]
        assert found
    for source, clips in ((vidgrid, "a"), (output, "b")):
        assert not unpack([source], Path(clips), unpack_profile(format="frames")).failed
    assert content(Path("a")) == content(Path("b"))


@pytest.mark.slow
def test_shards_have_the_size_that_is_asked_for(vidgrid: Path) -> None:
    for number in range(3):  # noise fills a PNG
        random = os.urandom(128 * 128 * 3)
        for frame in range(4):
            place = Path("videos", f"noise{number}", f"{frame}.png")
            place.parent.mkdir(exist_ok=True)
            Image.frombytes("RGB", (128, 128), random).resize((512, 512)).save(place)
    large = pack_profile(Grid(rows=2, cols=2, cell=(512, 512)), format="png", to="webdataset")
    result = pack(
        [Path("videos")],
        Path("large"),
        large.with_values({"pack.max_shard_megabytes": 1, "pack.tail": "pad"}),
    )
    shards = [path for path in result.written if path.suffix == ".tar"]
    assert len(shards) > 2
    assert all(path.stat().st_size < 1.1e6 for path in shards if len(names(path)) > 3)
    keys = [name.partition(".")[0] for path in shards[:-1] for name in names(path)]
    assert sorted(set(keys)) == [f"{k:09}" for k in range(len(set(keys)))]
    # A larger limit makes fewer files, and those of before would be read twice.
    again = pack([Path("videos")], Path("large"), large)
    assert "earlier export" in again.notes[-1]
    left = sorted(path.name for path in Path("large-webdataset").iterdir())
    assert left == ["train-00000-of-00001.tar", "val-00000-of-00001.tar"]


def names(shard: Path) -> list[str]:
    with tarfile.open(shard) as tar:
        return tar.getnames()


def test_webdataset_loads_them(vidgrid: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    pack([Path("videos")], vidgrid, profile(to="webdataset"))
    shard = vidgrid.with_name("vidgrid-webdataset") / "train-00000-of-00001.tar"
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == [f"{k:09}" for k in range(5)]
    first = samples[0]
    assert first["png"].size == GRID.image_size
    assert first["txt"] == (vidgrid / "take.1_0001.txt").read_text()
    assert (first["json"]["file_name"], first["json"]["part"]) == ("take.1_0001.png", [1, 2])


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_hugging_face_loads_them(
    vidgrid: Path, to: ShardFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    pack([Path("videos")], vidgrid, profile(to=to))
    folder = str(vidgrid.with_name(f"vidgrid-{to}"))
    loaded = datasets.load_dataset(to, data_dir=folder, cache_dir=str(vidgrid.parent / "hf"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 5, "validation": 1}
    row = loaded["train"][0]
    image, text = (row["png"], row["txt"]) if to == "webdataset" else (row["image"], row["text"])
    metadata = row["json"] if to == "webdataset" else row
    assert image.size == GRID.image_size
    assert text.strip() == (vidgrid / "take.1_0001.txt").read_text().strip()
    assert (metadata["rows"], metadata["cols"], list(metadata["part"])) == (2, 2, [1, 2])


def test_impossible_exports_are_refused_first(
    vidgrid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="without --shard"):
        pack([Path("videos")], Path("out"), profile(to="webdataset"), shard=(1, 2))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match="needs pyarrow; run: pip install pyarrow"):
        pack([Path("videos")], Path("out"), profile(to="parquet"))
    assert not Path("out").exists()


def test_somebody_elses_file_is_not_overwritten(vidgrid: Path) -> None:
    theirs = vidgrid.with_name("vidgrid-webdataset") / "val-00000-of-00001.tar"
    theirs.parent.mkdir()
    theirs.write_bytes(b"mine")
    (failure,) = pack([Path("videos")], vidgrid, profile(to="webdataset")).failed
    assert "not a shard made by gridctl" in failure.reason
    assert theirs.read_bytes() == b"mine"


def test_a_shard_from_elsewhere_stays_inside_the_cache(vidgrid: Path) -> None:
    image = (vidgrid / "vid1_0001.png").read_bytes()
    shard = Path("theirs.tar")
    with tarfile.open(shard, "w") as tar:
        for name, data in (
            ("../a.png", image),
            ("../a.txt", b"up"),
            ("b.x/k1.png", image),
            ("b.x/k1.json", json.dumps({"file_name": "/etc/c.png"}).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert sorted(content(as_folder(shard))) == ["a.png", "a.txt", "etc/c.png"]


def test_a_damaged_shard_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    for name in ("a.tar", "a.parquet"):
        (tmp_path / name).write_bytes(b"no shard at all")
        with pytest.raises(InputError, match=f"{name} is damaged"):
            as_folder(tmp_path / name)
    assert list((tmp_path / "cache").rglob("*.*")) == []
