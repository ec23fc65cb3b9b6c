"""Shards: which grids go where, what is written, and when one is written again."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.dataset.shards import Shard, ShardFormat, made_from_of, plan_shards, write_shard
from gridctl.errors import InputError
from gridctl.geometry import Grid
from tests.full_disk import needs_limits, room_for

GRID = Grid(rows=1, cols=2, cell=(16, 16))
FORMATS: tuple[ShardFormat, ...] = ("webdataset", "parquet")


def make_grid(path: Path, made_from: str = "x") -> Path:
    metadata = GridMetadata(
        grid=GRID,
        source=f"{path.stem}.mp4",
        times_seconds=(0.0, 0.5),
        fps=2.0,
        num_frames=2,
        made_from=made_from,
    )
    save_grid(np.zeros((16, 32, 3), np.uint8), path, metadata, force=True)
    path.with_suffix(".txt").write_text(f"caption of {path.stem}\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png", "val/d.png"):
        make_grid(tmp_path / "grids" / name)
    return tmp_path / "grids"


def test_grids_are_grouped_by_their_bytes(folder: Path) -> None:
    size = (folder / "a.png").stat().st_size
    planned = {}
    for limit in (1, 2 * size - 1, 2 * size, 3 * size):
        shards = plan_shards(folder, Path("out"), "webdataset", limit)
        planned[limit] = [(s.path.name, [i.name for i in s.images], s.first) for s in shards]
    val = ("val-00000-of-00001.tar", ["d.png"], 0)
    alone = [(f"train-0000{n}-of-00003.tar", [f"{'abc'[n]}.png"], n) for n in range(3)]
    assert planned[1] == planned[2 * size - 1] == [*alone, val]
    two = ("train-00000-of-00002.tar", ["a.png", "b.png"], 0)
    assert planned[2 * size] == [two, ("train-00001-of-00002.tar", ["c.png"], 2), val]
    all_of_them = ("train-00000-of-00001.tar", ["a.png", "b.png", "c.png"], 0)
    assert planned[3 * size] == [all_of_them, val]


def test_the_members_of_a_tar(folder: Path, tmp_path: Path) -> None:
    images = (folder / "b.png", folder / "val" / "d.png")
    shard = Shard(path=tmp_path / "s.tar", folder=folder, images=images, first=7)
    assert write_shard(shard)
    with tarfile.open(shard.path) as tar:
        members = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    assert list(members) == [
        f"00000000{n}.{suffix}" for n in "78" for suffix in ("png", "txt", "json")
    ]
    assert members["000000007.png"] == images[0].read_bytes()
    assert members["000000008.txt"] == b"caption of d\n"
    assert json.loads(members["000000008.json"]) == {
        "file_name": "val/d.png", "text": "caption of d", "rows": 1, "cols": 2, "cell": [16, 16],
        "order": "row-major", "source": "d.mp4", "times_seconds": [0.0, 0.5], "fps": 2.0,
        "num_frames": 2, "part": None, "shared": 0,
    }  # fmt: skip


def test_the_rows_of_a_parquet_file(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    images = (folder / "b.png", folder / "val" / "d.png")
    shard = Shard(path=tmp_path / "s.parquet", folder=folder, images=images, first=7)
    assert write_shard(shard)
    table = parquet.read_table(shard.path)
    first, second = table.to_pylist()
    assert first["image"] == {"bytes": images[0].read_bytes(), "path": "b.png"}
    assert (second["file_name"], second["text"]) == ("val/d.png", "caption of d")
    assert (second["cell"], second["times_seconds"], second["part"]) == ([16, 16], [0.0, 0.5], None)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["rows"] == {"dtype": "int32", "_type": "Value"}
    assert features["cell"] == {
        "feature": {"dtype": "int32", "_type": "Value"}, "_type": "Sequence"
    }  # fmt: skip


@pytest.mark.parametrize("to", FORMATS)
def test_a_shard_is_written_again_if_something_changed(
    folder: Path, tmp_path: Path, to: ShardFormat
) -> None:
    def write(**options: bool) -> bool:
        (shard, _) = plan_shards(folder, tmp_path / "out", to, 10**6)
        return write_shard(shard, **options)

    assert write()
    assert not write()
    assert write(force=True)
    (folder / "b.txt").write_text("another caption")
    assert write()
    make_grid(folder / "b.png", made_from="y")
    assert write()
    assert not write()
    images = (folder / "a.png",)
    known = set()
    for first in (0, 1):
        shard = Shard(path=tmp_path / f"s{first}.tar", folder=folder, images=images, first=first)
        write_shard(shard)
        known.add(made_from_of(shard.path))
    assert len(known) == 2  # the numbers in a tar are not the same


@needs_limits
@pytest.mark.parametrize("to", FORMATS)
def test_a_disk_that_takes_a_part_is_an_error(
    folder: Path, tmp_path: Path, to: ShardFormat
) -> None:
    (shard, _) = plan_shards(folder, tmp_path / "out", to, 10**6)
    assert write_shard(shard)
    whole = shard.path.read_bytes()
    with room_for(len(whole) - 100), pytest.raises(InputError, match="cannot be written"):
        write_shard(shard, force=True)
    assert shard.path.read_bytes() == whole
    shard.path.write_bytes(whole[: len(whole) // 2])  # an older gridctl might have left this
    assert made_from_of(shard.path) is None


@pytest.mark.parametrize("to", FORMATS)
def test_a_file_of_somebody_else_stays(folder: Path, tmp_path: Path, to: ShardFormat) -> None:
    (shard, _) = plan_shards(folder, tmp_path, to, 10**6)
    shard.path.write_bytes(b"mine")
    with pytest.raises(InputError, match="not a shard made by gridctl; use --force, or another -o"):
        write_shard(shard)
    assert shard.path.read_bytes() == b"mine"
    assert write_shard(shard, force=True)
