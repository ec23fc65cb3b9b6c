"""Training on a dataset in storage, which is copied to the cache."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from gridctl.dataset.fetch import as_folder, local_folder
from gridctl.geometry import Grid
from gridctl.profile import TrainSection, load_profile, profile_toml
from gridctl.storage import as_path
from gridctl.train import train
from gridctl.train.data import resolve_stages
from tests.s3_server import S3Server


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))


def test_a_copy_follows_its_folder(s3: tuple[str, S3Server], dataset: Path) -> None:
    bucket, server = s3
    url, system = as_path(f"{bucket}/vidgrid"), fsspec.filesystem("s3")
    system.put(f"{dataset}/", f"{url}/", recursive=True)
    copy = local_folder(url)
    assert content(copy) == content(dataset)

    server.forget()
    busy = copy / ".vid9.png.host.7.tmp.png"  # another process copies the same folder
    busy.touch()
    assert local_folder(url) == copy
    assert busy.exists()
    busy.unlink()
    assert [path for method, path in server.requests if path.endswith((".png", ".txt"))] == []

    names = sorted(content(dataset))
    changed, gone = next(n for n in names if n.endswith(".txt")), names[-2]
    before = (dataset / changed).read_bytes()
    system.pipe_file(f"{url}/{changed}", before[::-1])  # as long as before
    system.rm_file(f"{url}/{gone}")
    server.forget()
    expected = content(dataset) | {changed: before[::-1]}
    del expected[gone]
    assert content(local_folder(url)) == expected
    asked = [path for method, path in server.requests if path.endswith((".png", ".txt"))]
    assert [Path(path).name for path in asked] == [changed]


def test_a_copy_is_found_again_by_coarse_times(
    s3: tuple[str, S3Server], dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT stores even seconds since 1980."""
    bucket, server = s3
    url, set_times = as_path(f"{bucket}/vidgrid"), os.utime
    fsspec.filesystem("s3").put(f"{dataset}/", f"{url}/", recursive=True)

    def coarse(path: Path, ns: tuple[int, int]) -> None:
        seconds = [max(315_532_800, time // 2_000_000_000 * 2) for time in ns]
        set_times(path, (seconds[0], seconds[1]))

    monkeypatch.setattr(os, "utime", coarse)
    local_folder(url)
    server.forget()
    local_folder(url)
    assert [path for _, path in server.requests if path.endswith((".png", ".txt"))] == []


def test_shards_in_storage_are_read_where_they_are(dataset: Path, tmp_path: Path) -> None:
    from gridctl.dataset.shards import plan_shards, write_shard

    for shard in plan_shards(dataset, tmp_path / "shards", "webdataset", 10**6):
        write_shard(shard)
    fsspec.filesystem("memory").put(f"{tmp_path}/shards/", "memory://shards/", recursive=True)
    held = content(as_folder(as_path("memory://shards")))
    assert held == {n: c for n, c in content(dataset).items() if not n.endswith(".jsonl")}


def test_a_stage_reads_the_copy(dataset: Path) -> None:
    fsspec.filesystem("memory").put(f"{dataset}/", "memory://stage/", recursive=True)
    section = TrainSection(data=as_path("memory://stage"))
    (stage,) = resolve_stages(section, Grid(rows=2, cols=3, cell=(32, 32)))
    assert content(stage.data) == content(dataset)


@pytest.mark.slow
def test_a_bucket_trains_to_the_adapter_of_a_folder(
    s3: tuple[str, S3Server], dataset: Path, tmp_path: Path, make_profile: Callable[..., Any]
) -> None:
    from safetensors.torch import load_file

    bucket, _ = s3
    fsspec.filesystem("s3").put(f"{dataset}/", f"{bucket}/vidgrid/", recursive=True)
    adapters = []
    for name, data in (("local", dataset), ("remote", as_path(f"{bucket}/vidgrid"))):
        output = tmp_path / f"{name}.safetensors"
        profile = make_profile(train__data=data, train__output=output, train__steps=1)
        adapters.append(train(profile).adapter)
    local, remote = map(load_file, adapters)
    assert all((local[name] == remote[name]).all() for name in local)


def test_a_profile_names_a_url(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[train]\ndata = "s3://bucket/vidgrid/"\n')
    profile = load_profile(file).profile
    assert profile.train.data == as_path("s3://bucket/vidgrid")
    assert profile.to_json()["train"]["data"] == "s3://bucket/vidgrid"
    assert 'data = "s3://bucket/vidgrid"' in profile_toml(profile)
    assert "bucket" not in profile_toml(profile, keep_folders=False)  # as adapters carry it


@pytest.mark.parametrize("key", ["output", "start"])
def test_other_paths_of_a_profile_are_local(tmp_path: Path, key: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'[train]\n{key} = "s3://bucket/a.safetensors"\n')
    with pytest.raises(Exception, match="must be on this machine"):
        load_profile(file)
